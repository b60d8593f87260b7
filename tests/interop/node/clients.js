// Clients of mqtt.js, driven by JSON lines: a request on stdin, an answer or an event on stdout.
//
// One process runs them all, because starting node takes longer than most tests. A request is
// {id, client, op, ...}; its answer {id, ...} or {id, error, code}. Events have no id: a message
// is {client, message}, a DISCONNECT from the broker {client, ended}. Bytes are base64.

const crypto = require("crypto");
const readline = require("readline");
const mqtt = require("mqtt");

const clients = new Map();

function say(what) {
  process.stdout.write(JSON.stringify(what) + "\n");
}

function packed(from) {
  const to = {};
  if (from.content_type) to.contentType = from.content_type;
  if (from.response_topic) to.responseTopic = from.response_topic;
  if (from.correlation) to.correlationData = Buffer.from(from.correlation, "base64");
  if (from.text) to.payloadFormatIndicator = true;
  if (from.expiry_seconds !== null) to.messageExpiryInterval = from.expiry_seconds;
  if (from.alias !== null) to.topicAlias = from.alias;
  if (from.user.length) {
    to.userProperties = {};
    for (const [name, value] of from.user) (to.userProperties[name] ||= []).push(value);
  }
  return to;
}

function unpacked(from = {}) {
  const user = [];
  for (const [name, values] of Object.entries(from.userProperties || {})) {
    for (const value of [values].flat()) user.push([name, value]);
  }
  return {
    content_type: from.contentType || "",
    response_topic: from.responseTopic || "",
    correlation: (from.correlationData || Buffer.alloc(0)).toString("base64"),
    text: Boolean(from.payloadFormatIndicator),
    user,
    expiry_seconds: from.messageExpiryInterval ?? null,
    alias: from.topicAlias ?? null,
    identifiers: [from.subscriptionIdentifier ?? []].flat(),
  };
}

// SCRAM-SHA-256 (RFC 5802, 7677) in AUTH packets, as an application would write it.
function scram(client, user, password) {
  const nonce = crypto.randomBytes(18).toString("base64");
  const bare = `n=${user},r=${nonce}`;
  const hmac = (key, text) => crypto.createHmac("sha256", key).update(text).digest();
  client.handleAuth = (packet, done) => {
    const challenge = packet.properties.authenticationData.toString();
    const [, together, salt, rounds] = challenge.match(/^r=([^,]+),s=([^,]+),i=(\d+)$/);
    if (!together.startsWith(nonce)) return done(new Error("not my nonce"));
    const key = crypto.pbkdf2Sync(password, Buffer.from(salt, "base64"), +rounds, 32, "sha256");
    const clientKey = hmac(key, "Client Key");
    const stored = crypto.createHash("sha256").update(clientKey).digest();
    const final = `c=biws,r=${together}`;
    const whole = `${bare},${challenge},${final}`;
    const proof = hmac(stored, whole).map((byte, at) => byte ^ clientKey[at]);
    client.scramProof = hmac(hmac(key, "Server Key"), whole).toString("base64");
    done(null, {
      cmd: "auth",
      reasonCode: 0x18,
      properties: {
        authenticationMethod: "SCRAM-SHA-256",
        authenticationData: Buffer.from(`${final},p=${Buffer.from(proof).toString("base64")}`),
      },
    });
  };
  return Buffer.from(`n,,${bare}`);
}

const operations = {
  connect(request, done) {
    const options = { ...request.options, reconnectPeriod: 0, connectTimeout: 15000 };
    options.resubscribe = false;
    if (options.will) {
      options.will.payload = Buffer.from(options.will.payload, "base64");
      options.will.properties = packed(options.will.properties);
    }
    const will = {};
    if (request.scram) {
      options.properties.authenticationMethod = "SCRAM-SHA-256";
      options.properties.authenticationData = scram(will, ...request.scram);
    }
    const client = mqtt.connect(request.url, options);
    if (will.handleAuth) client.handleAuth = will.handleAuth;
    clients.set(request.client, client);
    let settled = false;
    client.on("connect", (packet) => {
      settled = true;
      const data = packet.properties?.authenticationData?.toString();
      const proven = !will.handleAuth || data === `v=${will.scramProof}`;
      done(proven ? null : new Error(`the server proved ${data}`), { present: packet.sessionPresent });
    });
    client.on("message", (topic, payload, packet) => {
      const { qos, retain, properties } = packet;
      const message = { topic, payload: payload.toString("base64"), qos, retain };
      say({ client: request.client, message: { ...message, properties: unpacked(properties) } });
    });
    client.on("error", (error) => {
      if (!settled) done(error);
      settled = true;
    });
    client.on("close", () => {
      if (!settled) done(new Error("closed"));
      settled = true;
    });
    client.on("disconnect", (packet) => {
      say({ client: request.client, ended: packet.reasonCode });
    });
  },
  subscribe(request, done) {
    const options = { qos: request.qos };
    if (request.identifier) options.properties = { subscriptionIdentifier: request.identifier };
    clients.get(request.client).subscribe(request.filter, options, (error, granted, suback) => {
      const code = suback?.granted?.[0] ?? granted?.[0]?.qos;
      done(code === undefined ? error : null, { granted: code?.qos ?? code });
    });
  },
  publish(request, done) {
    const { topic, qos, retain } = request;
    const payload = Buffer.from(request.payload, "base64");
    const options = { qos, retain };
    if (request.properties) options.properties = packed(request.properties);
    clients.get(request.client).publish(topic, payload, options, (error) => done(error));
  },
  leave(request, done) {
    clients.get(request.client).end(false, {}, () => done());
    clients.delete(request.client);
  },
  vanish(request, done) {
    const client = clients.get(request.client);
    clients.delete(request.client);
    if (client.stream.destroyed) return client.end(true, {}, () => done());
    client.once("close", () => client.end(true, {}, () => done()));
    client.stream.destroy();
  },
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const request = JSON.parse(line);
  const done = (error, more = {}) => {
    if (error) say({ id: request.id, error: String(error.message), code: error.code ?? null });
    else say({ id: request.id, ...more });
  };
  operations[request.op](request, done);
});

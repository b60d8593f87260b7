// Clients of @stomp/stompjs, over WebSocket and TCP, driven by JSON lines: see ../remote.py.
//
// Events are {client, connected}, {client, message}, {client, receipt}, {client, error} and
// {client, ended}. Bodies are base64.

const fs = require("fs");
const net = require("net");
const readline = require("readline");
const tls = require("tls");
const { WebSocket } = require("ws");
const { Client } = require("@stomp/stompjs");

const clients = new Map();

function say(what) {
  process.stdout.write(JSON.stringify(what) + "\n");
}

// A TCP connection, perhaps with TLS, that looks like a WebSocket: what stompjs asks for to speak
// over TCP.
class Tcp {
  constructor(host, port, secrets) {
    this.url = `tcp://${host}:${port}`;
    this.readyState = 0;
    this.socket = secrets ? tls.connect({ host, port, ...secrets }) : net.connect(port, host);
    this.socket.on(secrets ? "secureConnect" : "connect", () => {
      this.readyState = 1;
      this.onopen();
    });
    this.socket.on("data", (data) => this.onmessage({ data: new Uint8Array(data).buffer }));
    this.socket.on("error", (error) => this.onerror(error));
    this.socket.on("close", () => {
      this.readyState = 3;
      this.onclose({ code: 1000, reason: "", wasClean: true });
    });
  }

  send(data) {
    this.socket.write(typeof data === "string" ? data : Buffer.from(data));
  }

  close() {
    this.readyState = 2;
    this.socket.end();
  }

  terminate() {
    this.socket.destroy();
  }
}

// The contents of the files that TLS needs.
function read(files) {
  return files && Object.fromEntries(Object.entries(files).map(([name, file]) => [name, fs.readFileSync(file)]));
}

function told(frame) {
  return { headers: frame.headers, body: Buffer.from(frame.binaryBody).toString("base64") };
}

const operations = {
  open(request) {
    const number = request.client;
    const wanted = request.options;
    const client = new Client({
      reconnectDelay: 0,
      connectHeaders: wanted.headers,
      heartbeatOutgoing: wanted.beats[0],
      heartbeatIncoming: wanted.beats[1],
      forceBinaryWSFrames: wanted.binary,
    });
    client.stompVersions = {
      supportedVersions: () => wanted.version,
      protocolVersions: () => [`v${wanted.version.replace(".", "")}.stomp`],
    };
    const secrets = read(wanted.tls);
    client.webSocketFactory = wanted.websocket
      ? () => new WebSocket(wanted.url, client.stompVersions.protocolVersions(), secrets || {})
      : () => new Tcp(wanted.host, wanted.port, secrets);
    client.onConnect = (frame) => say({ client: number, connected: frame.headers });
    client.onUnhandledMessage = (frame) => say({ client: number, message: told(frame) });
    client.onUnhandledReceipt = (frame) =>
      say({ client: number, receipt: frame.headers["receipt-id"] });
    client.onStompError = (frame) => say({ client: number, error: told(frame) });
    client.onWebSocketError = () => {};
    client.onWebSocketClose = () => say({ client: number, ended: true });
    clients.set(number, client);
    client.activate();
  },
  send(request) {
    const binaryBody = new Uint8Array(Buffer.from(request.body, "base64"));
    clients.get(request.client).publish({
      destination: request.destination,
      headers: request.headers,
      ...(request.text ? { body: Buffer.from(binaryBody).toString() } : { binaryBody }),
    });
  },
  subscribe(request) {
    const { destination, headers } = request;
    const listener = (frame) => say({ client: request.client, message: told(frame) });
    clients.get(request.client).subscribe(destination, listener, headers);
  },
  unsubscribe(request) {
    clients.get(request.client).unsubscribe(request.sid, request.headers);
  },
  ack(request) {
    clients.get(request.client).ack(request.mid, request.sid, request.headers);
  },
  nack(request) {
    clients.get(request.client).nack(request.mid, request.sid, request.headers);
  },
  begin(request) {
    clients.get(request.client).begin(request.transaction);
  },
  commit(request) {
    clients.get(request.client).commit(request.transaction);
  },
  abort(request) {
    clients.get(request.client).abort(request.transaction);
  },
  async leave(request) {
    await clients.get(request.client).deactivate();
    clients.delete(request.client);
  },
  async vanish(request) {
    await clients.get(request.client).deactivate({ force: true });
    clients.delete(request.client);
  },
};

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const request = JSON.parse(line);
  try {
    await operations[request.op](request);
    say({ id: request.id });
  } catch (error) {
    say({ id: request.id, error: String(error.stack) });
  }
});

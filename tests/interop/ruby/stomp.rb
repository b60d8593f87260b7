# Clients of Debian's ruby-stomp, driven by JSON lines: see ../remote.py. The events are those of
# ../node/stomp.js.
#
# Each connection has a thread that receives. Requests come one after the other; what takes long,
# which is only opening a connection, has a thread of its own.

require "base64"
require "json"
require "stomp"

$connections = {}
$lock = Mutex.new

def say(what)
  $lock.synchronize { $stdout.write(JSON.generate(what) + "\n"); $stdout.flush }
end

def told(frame)
  # In 1.0 it keeps headers of a name, and in all versions bodies without an encoding.
  headers = frame.headers.to_h { |name, value| [name, [value].flatten.first] }
  { headers: headers, body: Base64.strict_encode64(frame.body) }
end

def report(number, connection)
  while (frame = connection.receive)
    case frame.command
    when "MESSAGE" then say({ client: number, message: told(frame) })
    when "RECEIPT" then say({ client: number, receipt: frame.headers["receipt-id"] })
    when "ERROR" then say({ client: number, error: told(frame) })
    end
  end
  say({ client: number, ended: true })
rescue StandardError
  say({ client: number, ended: true })
end

# What the library calls, and Ruby has not any more since 3.2.
File.singleton_class.alias_method(:exists?, :exist?) unless File.respond_to?(:exists?)

def secrets(files)
  return false unless files
  Stomp::SSLParams.new(ts_files: files["ca"], cert_file: files["cert"], key_file: files["key"],
                       use_ruby_ciphers: true)
end

def open_one(number, wanted)
  connection = Stomp::Connection.new(
    hosts: [{ login: wanted["login"], passcode: wanted["passcode"],
              host: wanted["host"], port: wanted["port"], ssl: secrets(wanted["tls"]) }],
    reliable: false, connect_headers: wanted["headers"].transform_keys(&:to_sym), autoflush: true,
    usecrlf: wanted["crlf"], stompconn: wanted["crlf"]
  )
  frame = connection.connection_frame
  if frame.command == "ERROR"
    say({ client: number, error: told(frame) })
    connection.instance_variable_get(:@socket).close
    return
  end
  $connections[number] = connection
  say({ client: number, connected: frame.headers })
  report(number, connection)
rescue StandardError => error
  say({ client: number, error: { headers: { message: error.class.name }, body: "" } })
end

def act(request)
  number = request["client"]
  connection = $connections[number]
  headers = (request["headers"] || {}).dup
  case request["op"]
  when "open" then Thread.new { open_one(number, request["options"]) }
  when "send"
    connection.publish(request["destination"], Base64.decode64(request["body"]), headers)
  when "subscribe" then connection.subscribe(request["destination"], headers)
  when "unsubscribe" then connection.unsubscribe(request["destination"], headers)
  when "ack", "nack"
    headers["subscription"] = request["sid"] if request["sid"]
    connection.public_send(request["op"], request["mid"], headers)
  when "begin", "commit", "abort" then connection.public_send(request["op"], request["transaction"], headers)
  when "leave"
    $connections.delete(number)
    begin
      connection.disconnect
    rescue IOError
      # The broker hung up, and the thread that receives closed the socket, before this returned.
    end
  when "vanish"
    $connections.delete(number)
    connection&.instance_variable_get(:@socket)&.close
  end
end

$stderr.reopen(File::NULL) # it warns of connections that end
while (line = $stdin.gets)
  request = JSON.parse(line)
  begin
    act(request)
    say({ id: request["id"] })
  rescue StandardError => error
    say({ id: request["id"], error: error.full_message(highlight: false) })
  end
end

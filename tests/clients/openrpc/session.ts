// A session by the generated client, which does the calls, over a connection of lines:
//
//     node session.js SOCKET
//
// It prints what it has got. Every result is held against the schema that the document gives for it.

import { strict as assert } from "assert";
import { createConnection, Socket } from "net";
import { createInterface } from "readline";

import { Client, RequestManager } from "@open-rpc/client-js";
import { JSONRPCRequestData } from "@open-rpc/client-js/build/Request";
import { Transport } from "@open-rpc/client-js/build/transports/Transport";
import Ajv from "ajv";

import { NoxRunnerLocal } from "./index";

// One message a line. The client's own transports know no Unix socket.
class Lines extends Transport {
  private socket?: Socket;

  constructor(private path: string) {
    super();
  }

  public async connect(): Promise<void> {
    const socket = createConnection(this.path);
    this.socket = socket;
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    createInterface(socket).on("line", (line) => this.transportRequestManager.resolveResponse(line));
  }

  public async sendData(data: JSONRPCRequestData, timeout: number | null = null): Promise<any> {
    const answer = this.transportRequestManager.addRequest(data, timeout);
    this.socket!.write(JSON.stringify(this.parseData(data)) + "\n");
    return answer;
  }

  public close(): void {
    this.socket?.end();
  }
}

// A client that is generated knows HTTP and WebSockets; this one is given lines instead.
function connect(path: string): NoxRunnerLocal {
  const client = new NoxRunnerLocal({ transport: { type: "http", host: "unused", port: 1 } });
  client.rpc = new Client(new RequestManager([new Lines(path)]));
  return client;
}

// The result, once it is what the document says.
async function checked<T>(method: string, answer: Promise<T>): Promise<T> {
  const result = await answer;
  const described: any = NoxRunnerLocal.openrpcDocument.methods.find((m: any) => m.name === method);
  const ajv = new Ajv();
  assert(ajv.validate(described.result.schema, result), `${method}: ${ajv.errorsText()}`);
  return result;
}

// How a call is refused: by the daemon an error with a code, by the client a list of what is wrong.
async function refused(answer: Promise<unknown>): Promise<any> {
  return answer.then((result) => assert.fail(`not refused: ${JSON.stringify(result)}`), (error) => error);
}

async function session(client: NoxRunnerLocal): Promise<object> {
  const id = "generated";
  const health = await checked("health", client.health());
  const created = await checked("sandbox.create", client["sandbox.create"](id));
  const written = await checked(
    "file.write",
    client["file.write"]("from a generated client ✓\n", id, undefined, undefined, 384, "note"),
  );
  const command = ["sh", "-c", "cat note; echo $GREETING; exit 3"];
  const ran = await checked(
    "sandbox.exec",
    client["sandbox.exec"](command, id, undefined, undefined, { GREETING: "hello" }),
  );
  const read = await checked("file.read", client["file.read"](id, "base64", 4, 5, "note"));
  const stat = await checked("file.stat", client["file.stat"](id, "note"));
  const listed = await checked("file.list", client["file.list"](id));
  const got = await checked("sandbox.get", client["sandbox.get"](id));
  const all = await checked("sandbox.list", client["sandbox.list"]());
  await checked("sandbox.touch", client["sandbox.touch"](id));
  await checked("file.mkdir", client["file.mkdir"](id, undefined, "sub"));
  await checked("file.rename", client["file.rename"](id, "note", undefined, "sub/note"));
  const packed = await checked("file.download", client["file.download"](id, "sub"));
  await checked("file.remove", client["file.remove"](id, "sub", undefined, true));
  const unpacked = await checked("file.upload", client["file.upload"](packed.archive, id));
  const policy = await checked("policy.get", client["policy.get"]());
  const verdict = await checked("policy.check", client["policy.check"](["rm", "x"]));
  const denied = await checked("sandbox.exec", client["sandbox.exec"](["rm", "x"], id));
  const daemon = await checked("daemon.info", client["daemon.info"]());
  const document = await checked("rpc.discover", client["rpc.discover"]());
  const gone = await checked("sandbox.delete", client["sandbox.delete"](id));
  const unknown = await refused(client["sandbox.get"](id));
  const wrong = [
    client["sandbox.exec"]("ls" as any, id),
    client["sandbox.exec"](["ls"], "x".repeat(257)),
    client["sandbox.touch"]("a\u0007b"),
    client["sandbox.create"](id, "lots"),
    client["sandbox.exec"](["ls"], id, false, "utf16" as any),
  ];
  const refusals = await Promise.all(wrong.map(refused));
  return {
    status: health.status,
    created: created.created,
    size: written.size,
    exitCode: ran.exitCode,
    stdout: ran.stdout,
    data: read.data,
    kind: stat.type,
    mode: stat.mode,
    names: listed.entries.map((entry) => entry.name),
    sessionId: got.sessionId,
    sandboxes: all.sandboxes.length,
    unpacked: unpacked.written,
    blocks: policy.block.includes("rm"),
    allowed: verdict.allowed,
    cause: denied.cause,
    rule: denied.denial?.rule,
    socket: daemon.socket,
    methods: (document as any).methods.length,
    deleted: gone.deleted,
    unknown: unknown.data?.kind,
    wrong: refusals.map((errors) => errors[0].paramIndex),
  };
}

async function main(): Promise<void> {
  const client = connect(process.argv[2]);
  try {
    console.log(JSON.stringify(await session(client)));
  } finally {
    client.rpc.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});

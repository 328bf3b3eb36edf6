// Perfetto's trace_processor, built for a browser's worker, as a program: requests on standard input, replies on
// standard output, both as the bytes of TraceProcessorRpcStream. node trace_processor.js DIRECTORY

const fs = require("fs");
const path = require("path");
const vm = require("vm");

const directory = process.argv[2];
const complaints = [];

class XMLHttpRequest {
    open(_, name) {
        this.response = fs.readFileSync(path.join(directory, path.basename(name)));
    }
    send() {}
}

const console = { log() {}, warn: (text) => complaints.push(text), error: (text) => complaints.push(text) };
const worker = { URL, TextDecoder, performance, setTimeout, XMLHttpRequest, console };
worker.self = worker;
worker.WorkerGlobalScope = class {};
worker.location = { href: "http://localhost/" };
process.on("uncaughtException", (error) => {
    // Its stack would quote the whole bundle, which is one line.
    process.stderr.write(`${String(error).slice(0, 500)}\n${complaints.join("\n")}\n`);
    process.exit(1);
});
vm.createContext(worker);
vm.runInContext(fs.readFileSync(path.join(directory, "engine_bundle.js"), "utf8"), worker);
const Bytes = vm.runInContext("Uint8Array", worker);
const port = { postMessage: (bytes) => process.stdout.write(bytes) };
worker.onmessage({ data: port });
process.stdin.on("data", (chunk) => port.onmessage({ data: new Bytes(chunk) }));

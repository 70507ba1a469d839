// Holds documents against the meta-schema of OpenRPC, and their examples against their own schemas:
//
//     node check.js DOCUMENT…
//
// For each a line: `valid` and the number of examples, or what is wrong and where.
"use strict";

const { readFileSync } = require("node:fs");
const Ajv = require("ajv");
const { default: jsonSchema } = require("@json-schema-tools/meta-schema");
const { openrpcDocument: openrpc } = require("@open-rpc/meta-schema");

function problem(document) {
  const ajv = new Ajv();
  ajv.addSchema(jsonSchema, "https://meta.json-schema.tools");
  if (!ajv.validate(openrpc, document)) {
    return ajv.errorsText(undefined, { dataVar: "document" });
  }
  return undefined;
}

// Calls back with each example: what it is of, its schema, its value.
function examples(document, each) {
  for (const { name, params, result, examples } of document.methods) {
    for (const example of examples ?? []) {
      for (const { name: param, value } of example.params) {
        const schema = params.find((known) => known.name === param)?.schema;
        each(`${name}:${param}`, schema, value);
      }
      each(name, result.schema, example.result.value);
    }
  }
  for (const [name, schema] of Object.entries(document.components.schemas)) {
    for (const value of schema.examples ?? []) {
      each(name, schema, value);
    }
  }
}

for (const file of process.argv.slice(2)) {
  const document = JSON.parse(readFileSync(file, "utf8"));
  let wrong = problem(document);
  let count = 0;
  if (wrong === undefined) {
    examples(document, (name, schema, value) => {
      count += 1;
      const ajv = new Ajv();
      // What references of schemas lead to is beside them in the document.
      const placed = { components: document.components, allOf: [schema ?? false] };
      if (!ajv.validate(placed, value)) {
        wrong = `example of ${name}: ${ajv.errorsText()}`;
      }
    });
  }
  console.log(wrong ?? `valid ${count}`);
}

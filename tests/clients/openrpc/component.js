// What the generator's own TypeScript component makes, but for two things: it writes a method's name
// as a bare property, which no name with a point in it can be, and it has params by name checked
// by their positions.
"use strict";

const { components } = require("@open-rpc/generator");

const own = components.defaultClientComponent;
const [file] = own.hooks.templateFiles.typescript;

function template(values) {
  const text = file.template(values);
  const position = "this.validator.validate(methodName, params)";
  if (!text.includes(position)) {
    throw new Error("the generator's template is another one now");
  }
  return text
    .replace(/^ {2}public (\w+\.\w+):/gm, '  public "$1":')
    .replace(position, 'this.validator.validate(methodName, _.zipObject(_.map(methodObject.params, "name"), params) as any)');
}

// The generator takes a component's default export only from what says that it is a module.
Object.defineProperty(exports, "__esModule", { value: true });
exports.default = {
  staticPath: (language) => own.staticPath(language, "client"),
  hooks: { ...own.hooks, templateFiles: { typescript: [{ ...file, template }] } },
};

//! The OpenRPC document, generated from the types so that it cannot disagree with them.
//! Its form is that of the OpenRPC specification 1.3.

mod schema;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::error::ErrorKind;
use crate::method::{self, Method};
use schema::{pascal, tidy};

/// A document in the making.
pub(crate) struct Document {
    schemas: SchemaGenerator,
    methods: Vec<Value>,
}

/// The whole document, for a daemon of this version.
pub fn document(version: &str) -> Value {
    let settings = SchemaSettings::draft07().with(|s| {
        s.definitions_path = "/components/schemas".into();
        s.meta_schema = None;
    });
    let mut document = Document { schemas: settings.into_generator(), methods: Vec::new() };
    method::describe_all(&mut document);
    let errors: Map<String, Value> = ErrorKind::ALL
        .iter()
        .map(|kind| {
            let name = kind.name();
            let error = json!({"code": kind.code(), "message": name, "data": {"kind": name}});
            (name.to_owned(), error)
        })
        .collect();
    let mut schemas = document.schemas.take_definitions(true);
    for (name, schema) in &mut schemas {
        tidy(schema, &title(name));
    }
    json!({
        "openrpc": "1.3.2",
        "info": {
            "title": "NoxRunner Local",
            "description": "Local sandboxes over one Unix socket: JSON-RPC 2.0, one message a line.",
            "version": version,
            "license": {"name": "MIT"},
        },
        "methods": document.methods,
        "components": {"schemas": schemas, "errors": errors},
    })
}

/// What a type is called in clients. Generators name a method's own type after the method, so that
/// a type of the same name gives way.
fn title(name: &str) -> String {
    let taken = method::NAMES.iter().any(|method| pascal(method) == name);
    if taken { format!("{name}Result") } else { name.to_owned() }
}

impl Document {
    /// Adds a method: one content descriptor for each field of its params.
    pub(crate) fn method<M>(&mut self)
    where
        M: Method,
        M::Params: JsonSchema,
        M::Result: JsonSchema,
    {
        let mut params = M::Params::json_schema(&mut self.schemas).to_value();
        tidy(&mut params, &pascal(M::NAME));
        let required = params["required"].as_array().map_or(&[][..], Vec::as_slice);
        let mut descriptors: Vec<Value> = params["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, schema)| {
                let needed = required.iter().any(|r| r == name);
                let mut descriptor = json!({"name": name, "required": needed, "schema": schema});
                if let Some(description) = schema.get("description") {
                    descriptor["description"] = description.clone();
                }
                descriptor
            })
            .collect();
        // OpenRPC asks for what is required to come first.
        descriptors.sort_by_key(|d| d["required"] != true);
        let errors: Vec<Value> = ErrorKind::ALL
            .iter()
            .map(|kind| json!({"$ref": format!("#/components/errors/{}", kind.name())}))
            .collect();
        let name = format!("{}Result", M::NAME);
        let mut described = json!({
            "name": M::NAME,
            "summary": M::SUMMARY,
            "paramStructure": "by-name",
            "params": descriptors,
            "result": {"name": name, "schema": self.result::<M>()},
            "errors": errors,
        });
        let mut result = M::Result::json_schema(&mut self.schemas).to_value();
        tidy(&mut result, &name);
        if let (Some(given), Some(got)) =
            (params.pointer("/examples/0"), result.pointer("/examples/0"))
        {
            let given = given.as_object().into_iter().flatten();
            let given: Vec<Value> =
                given.map(|(name, value)| json!({"name": name, "value": value})).collect();
            described["examples"] =
                json!([{"name": M::NAME, "params": given, "result": {"name": name, "value": got}}]);
        }
        self.methods.push(described);
    }

    /// The schema of a method's result.
    fn result<M>(&mut self) -> Value
    where
        M: Method,
        M::Result: JsonSchema,
    {
        let schema = self.schemas.subschema_for::<M::Result>().to_value();
        // Any JSON at all, as `rpc.discover` says: an object at the least, and with a name.
        if schema == true {
            return json!({"title": "OpenrpcDocument", "type": "object"});
        }
        schema
    }
}

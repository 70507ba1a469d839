//! The OpenRPC document, generated from the types so that it cannot disagree with them.
//! Its form is that of the OpenRPC specification 1.3.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::error::ErrorKind;
use crate::method::{self, Method};

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
        .map(|kind| (kind.name().to_owned(), json!({"code": kind.code(), "message": kind.name()})))
        .collect();
    json!({
        "openrpc": "1.3.2",
        "info": {
            "title": "NoxRunner Local",
            "description": "Local sandboxes over one Unix socket: JSON-RPC 2.0, one message a line.",
            "version": version,
            "license": {"name": "MIT"},
        },
        "methods": document.methods,
        "components": {"schemas": document.schemas.take_definitions(true), "errors": errors},
    })
}

impl Document {
    /// Adds a method: one content descriptor for each field of its params.
    pub(crate) fn method<M>(&mut self)
    where
        M: Method,
        M::Params: JsonSchema,
        M::Result: JsonSchema,
    {
        let params = M::Params::json_schema(&mut self.schemas);
        let field = |name: &str| params.get(name).cloned().unwrap_or_default();
        let required = field("required");
        let required = required.as_array().map_or(&[][..], Vec::as_slice);
        let mut descriptors: Vec<Value> = field("properties")
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, schema)| {
                let needed = required.iter().any(|r| r == name);
                json!({"name": name, "required": needed, "schema": schema})
            })
            .collect();
        // OpenRPC asks for what is required to come first.
        descriptors.sort_by_key(|d| d["required"] != true);
        let errors: Vec<Value> = ErrorKind::ALL
            .iter()
            .map(|kind| json!({"$ref": format!("#/components/errors/{}", kind.name())}))
            .collect();
        let name = format!("{}Result", M::NAME);
        let result = json!({"name": name, "schema": self.schemas.subschema_for::<M::Result>()});
        self.methods.push(json!({
            "name": M::NAME,
            "summary": M::SUMMARY,
            "paramStructure": "by-name",
            "params": descriptors,
            "result": result,
            "errors": errors,
        }));
    }
}

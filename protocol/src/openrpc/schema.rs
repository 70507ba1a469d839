//! What schemars makes of the types, made into what generators of clients take: a title for each
//! schema, one type for each, and no word that only Rust knows.

use serde_json::{Map, Value, json};

/// What is said about a schema beside what it lets pass.
const ANNOTATIONS: [&str; 4] = ["title", "description", "default", "examples"];

/// What holds one schema, and what a schema in it is called after its parent's title.
const SINGLE: [(&str, &str); 2] = [("items", "Item"), ("additionalProperties", "Value")];

/// Gives a schema and all within it their titles, which begin with this one, and tidies them.
pub(super) fn tidy(schema: &mut Value, title: &str) {
    let Some(members) = schema.as_object_mut() else { return };
    if members.contains_key("$ref") {
        if members.len() == 1 {
            return;
        }
        // What is beside a reference does not count (JSON Schema draft 7, 8.3).
        let reference = members.remove("$ref");
        members.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    members.insert("title".to_owned(), title.into());
    take_example(members);
    take_format(members);
    split_types(members);
    for (name, suffix) in SINGLE {
        if let Some(inner) = members.get_mut(name) {
            tidy(inner, &format!("{title}{suffix}"));
        }
    }
    let properties = members.get_mut("properties").and_then(Value::as_object_mut);
    for (name, inner) in properties.into_iter().flatten() {
        tidy(inner, &format!("{title}{}", pascal(name)));
    }
    for name in ["oneOf", "anyOf", "allOf"] {
        let branches = members.get_mut(name).and_then(Value::as_array_mut);
        for (n, inner) in branches.into_iter().flatten().enumerate() {
            let suffix =
                ["const", "type"].iter().find_map(|key| Some(pascal(inner.get(key)?.as_str()?)));
            let suffix = suffix.unwrap_or_else(|| n.to_string());
            tidy(inner, &format!("{title}{suffix}"));
        }
    }
}

/// A name as types are spelled: `file.read` and `session_id` become `FileRead` and `SessionId`.
pub(super) fn pascal(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    words
        .flat_map(|word| {
            word.chars().take(1).map(|c| c.to_ascii_uppercase()).chain(word.chars().skip(1))
        })
        .collect()
}

/// The JSON that a type's documentation ends with is an example of it; the rest describes it.
fn take_example(members: &mut Map<String, Value>) {
    let Some(text) = members.get("description").and_then(Value::as_str) else { return };
    let (words, example) = text.split_once("```json").unwrap_or((text, ""));
    let example = serde_json::from_str::<Value>(example.trim_end().trim_end_matches("```"));
    // Lines end where the source's do, which means nothing to a reader.
    let paragraphs: Vec<String> =
        words.split("\n\n").map(|p| p.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let words = paragraphs.join("\n\n").trim().to_owned();
    members.insert("description".to_owned(), words.into());
    if let Ok(example) = example {
        members.insert("examples".to_owned(), json!([example]));
    }
}

/// Widths of integers become bounds, and the format of which JSON Schema knows nothing goes.
fn take_format(members: &mut Map<String, Value>) {
    let (least, most) = match members.get("format").and_then(Value::as_str) {
        Some("uint32") => (None, Some(u32::MAX.into())),
        Some("int32") => (Some(i32::MIN.into()), Some(i32::MAX.into())),
        // Beyond 2^53 a bound would be no number of JSON's everyday readers.
        Some("uint64" | "uint" | "double") => (None, None),
        _ => return,
    };
    members.remove("format");
    let bounds: [(&str, Option<Value>); 2] = [("minimum", least), ("maximum", most)];
    for (name, bound) in bounds {
        if let Some(bound) = bound {
            members.entry(name).or_insert(bound);
        }
    }
}

/// A list of types becomes a choice of schemas. What bounds the one that is not null goes there.
fn split_types(members: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = members.get("type").cloned() else { return };
    let annotates = |(name, _): &(String, Value)| ANNOTATIONS.contains(&name.as_str());
    let (said, bounds): (Map<_, _>, Map<_, _>) =
        std::mem::take(members).into_iter().partition(annotates);
    let branches = types.into_iter().map(|kind| {
        let mut branch = if kind == "null" { Map::new() } else { bounds.clone() };
        branch.insert("type".to_owned(), kind);
        Value::Object(branch)
    });
    let branches = branches.collect();
    *members = said;
    members.insert("oneOf".to_owned(), Value::Array(branches));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tidied(mut schema: Value) -> Value {
        tidy(&mut schema, "Thing");
        schema
    }

    #[test]
    fn everything_within_has_a_title_of_its_own() {
        let schema = json!({
            "type": "object",
            "properties": {"session_id": {"$ref": "#/x"}, "env": {"additionalProperties": {"type": "string"}}},
            "oneOf": [{"const": "notFound", "type": "string"}, {"type": "null"}, {"minimum": 1}],
        });
        let expected = json!({
            "title": "Thing",
            "type": "object",
            "properties": {
                "session_id": {"$ref": "#/x"},
                "env": {
                    "title": "ThingEnv",
                    "additionalProperties": {"title": "ThingEnvValue", "type": "string"},
                },
            },
            "oneOf": [
                {"title": "ThingNotFound", "const": "notFound", "type": "string"},
                {"title": "ThingNull", "type": "null"},
                {"title": "Thing2", "minimum": 1},
            ],
        });
        assert_eq!(tidied(schema), expected);
        assert_eq!(tidied(json!(true)), true);
        let described = tidied(json!({"$ref": "#/x", "default": 1}));
        let expected = json!({"title": "Thing", "allOf": [{"$ref": "#/x"}], "default": 1});
        assert_eq!(described, expected);
    }

    #[test]
    fn several_types_become_a_choice_and_widths_become_bounds() {
        let schema = json!({
            "type": ["integer", "null"], "format": "uint32", "minimum": 3, "default": null, "description": "a\nb",
        });
        let expected = json!({
            "title": "Thing",
            "description": "a b",
            "default": null,
            "oneOf": [
                {"title": "ThingInteger", "type": "integer", "minimum": 3, "maximum": u32::MAX},
                {"title": "ThingNull", "type": "null"},
            ],
        });
        assert_eq!(tidied(schema), expected);
        let kept = tidied(json!({"type": "string", "format": "date-time"}));
        assert_eq!(kept["format"], "date-time");
    }

    #[test]
    fn the_json_of_a_description_is_an_example() {
        let schema =
            tidied(json!({"description": "What\nit is.\n\nMore.\n\n```json\n{\"a\": 1}\n```"}));
        assert_eq!(schema["description"], "What it is.\n\nMore.");
        assert_eq!(schema["examples"], json!([{"a": 1}]));
    }
}

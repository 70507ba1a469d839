//! What follows the question mark.

use percent_encoding::percent_decode_str;

/// A query, as forms write it (application/x-www-form-urlencoded).
#[derive(Debug)]
pub(super) struct Query(Vec<(String, Vec<u8>)>);

impl Query {
    /// Reads one that may have these names.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn of(text: Option<&str>, known: &[&str]) -> Result<Self, String> {
        let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decoded =
            |text: &str| -> Vec<u8> { percent_decode_str(&text.replace('+', " ")).collect() };
        let mut query = Self(Vec::new());
        for (name, value) in pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
            let name = String::from_utf8_lossy(&decoded(name)).into_owned();
            if known.is_empty() {
                return Err(format!("there is nothing to be said in a query here, as {name:?}"));
            }
            if !known.contains(&name.as_str()) {
                return Err(format!("{name:?} means nothing here: {}", known.join(", ")));
            }
            if query.0.iter().any(|(other, _)| *other == name) {
                return Err(format!("{name} is given twice"));
            }
            query.0.push((name, decoded(value)));
        }
        Ok(query)
    }

    /// A value; an empty one is as good as none.
    pub(super) fn get(&self, name: &str) -> Option<Vec<u8>> {
        let found = self.0.iter().find(|(other, value)| other == name && !value.is_empty());
        found.map(|(_, value)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded_once() {
        let query = Query::of(Some("dest=a+b%2Bc%FF&"), &["dest"]).unwrap();
        assert_eq!(query.get("dest").unwrap(), b"a b+c\xff");
        assert_eq!(Query::of(Some("dest="), &["dest"]).unwrap().get("dest"), None);
        assert!(Query::of(Some("dst=x"), &["dest"]).unwrap_err().contains("dst"));
        assert!(Query::of(Some("dest=a&dest=b"), &["dest"]).unwrap_err().contains("twice"));
        assert!(Query::of(Some(""), &[]).is_ok() && Query::of(Some("x=1"), &[]).is_err());
    }
}

//! Labels as documents show them, and the filter on them.

use engine_model::spec::Tags;
use engine_model::{Code, Rejection};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A label of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// What it says something about.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// Labels as a list.
pub(crate) fn list(tags: &Tags) -> Vec<Tag> {
    tags.iter()
        .map(|(key, value)| Tag {
            key: key.clone(),
            value: value.clone(),
        })
        .collect()
}

/// Which documents are wanted, by a label.
pub(crate) struct TagFilter(Option<Tag>);

impl TagFilter {
    /// Reads `key=value`; `None` wants every document.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Rejection> {
        let Some(text) = text else {
            return Ok(Self(None));
        };
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| {
                let shown: String = text.chars().take(80).collect();
                let message = format!("the tag filter '{shown}' is not of the form key=value");
                Rejection::new(Code::InvalidField, message)
            })?;
        Ok(Self(Some(Tag {
            key: key.to_owned(),
            value: value.to_owned(),
        })))
    }

    /// Whether `document` is wanted.
    pub(crate) fn takes(&self, document: &Value) -> bool {
        let Some(wanted) = &self.0 else { return true };
        let tags = document["tags"].as_array().map_or(&[][..], Vec::as_slice);
        tags.iter()
            .any(|tag| tag["key"] == *wanted.key && tag["value"] == *wanted.value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_filter_takes_documents_that_bear_the_whole_tag() {
        let filter = TagFilter::parse(Some("Application=a=b")).unwrap();
        assert!(filter.takes(&json!({"tags": [{"key": "Application", "value": "a=b"}]})));
        assert!(!filter.takes(&json!({"tags": [{"key": "Application", "value": "a"}]})));
        assert!(!filter.takes(&json!({"tags": []})));
        assert!(TagFilter::parse(None).unwrap().takes(&json!({})));
    }

    #[test]
    fn a_filter_of_another_form_is_refused() {
        for bad in ["x", "=x", ""] {
            assert_eq!(
                TagFilter::parse(Some(bad)).err().map(|r| r.code),
                Some(Code::InvalidField)
            );
        }
    }
}

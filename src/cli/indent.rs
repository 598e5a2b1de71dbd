//! JSON laid out for people without reading it into values.

/// What one level is indented by, as `serde_json` does it.
const STEP: &str = "  ";

/// Lays out a well-formed JSON text: a line for each member, two spaces a level.
pub(super) fn indent(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let mut opened = false;
    let mut rest = json;
    while let Some(first) = rest.as_bytes().first() {
        let close = matches!(first, b'}' | b']');
        let blank = first.is_ascii_whitespace();
        if close {
            depth = depth.saturating_sub(1);
        }
        // Nothing between the brackets: they stay together.
        if (close && !opened) || (opened && !close && !blank) {
            new_line(&mut out, depth);
        }
        opened = opened && blank;
        let (token, after) = rest.split_at(token(rest.as_bytes()));
        match first {
            b'{' | b'[' => {
                depth += 1;
                opened = true;
                out.push_str(token);
            }
            b',' => {
                out.push_str(token);
                new_line(&mut out, depth);
            }
            b':' => out.push_str(": "),
            _ if blank => {}
            _ => out.push_str(token),
        }
        rest = after;
    }
    out
}

/// Returns the length of the token that `text` begins with: a string, a run of white space or of
/// anything else that stands alone, or one sign.
fn token(text: &[u8]) -> usize {
    let sign = |byte: &u8| b"{}[],:\"".contains(byte) || byte.is_ascii_whitespace();
    match text.first() {
        Some(b'"') => string(text),
        Some(first) if sign(first) => 1,
        Some(_) => text.iter().position(sign).unwrap_or(text.len()),
        None => 0,
    }
}

fn string(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        at += match byte {
            b'"' => return at + 1,
            // What is escaped is one byte of its own, or begins with one.
            b'\\' => 2,
            _ => 1,
        };
    }
    text.len()
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    (0..depth).for_each(|_| out.push_str(STEP));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_serde_json_would_have_written(value in values()) {
            let pretty = serde_json::to_string_pretty(&value).expect("json");
            prop_assert_eq!(indent(&value.to_string()), pretty.clone());
            prop_assert_eq!(indent(&pretty), pretty, "white space that was there is dropped");
        }

        #[test]
        fn any_text_is_tolerated(text: String) {
            indent(&text);
        }
    }

    #[test]
    fn brackets_of_nothing_stay_together() {
        assert_eq!(
            indent(r#"{"a":[ ],"b":{},"c":"\"[,"}"#),
            "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": \"\\\"[,\"\n}"
        );
    }
}

//! Answers as tables, JSON or YAML.

use clap::ValueEnum;
use keelson_control::chain;
use serde::Serialize;
use time::OffsetDateTime;

use crate::failure::Failure;
use crate::fleet::Answer;
use crate::table::Table;

/// Forms of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Wide,
    Json,
    Yaml,
}

/// How messages become text for people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detail {
    /// More columns, and times instead of ages.
    pub(crate) wide: bool,
    /// Several nodes are shown together.
    pub(crate) several: bool,
    /// What ages are counted from.
    pub(crate) now: OffsetDateTime,
}

/// Text for people.
#[derive(Debug)]
pub(crate) enum Body {
    /// Rows that can stand below those of other nodes.
    Table(Table),
    /// Lines about one node.
    Text(String),
}

/// A message that can be shown.
pub(crate) trait Show: Serialize {
    fn show(&self, detail: Detail) -> Body;
}

/// How answers are laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) format: Format,
    pub(crate) colour: bool,
    pub(crate) now: OffsetDateTime,
}

/// The answers that came as one text. Those that did not are in JSON and YAML too, when there
/// are several nodes; for people they belong to standard error.
pub(crate) fn render<T: Show>(answers: &[Answer<T>], layout: Layout) -> Result<String, Failure> {
    let several = answers.len() > 1;
    match layout.format {
        Format::Json | Format::Yaml if several => {
            let all: Vec<NodeAnswer<'_, T>> = answers.iter().map(NodeAnswer::of).collect();
            serialize(&all, layout.format)
        }
        Format::Json | Format::Yaml => match answers.first().map(|answer| &answer.result) {
            Some(Ok(value)) => serialize(value, layout.format),
            _ => Ok(String::new()),
        },
        Format::Table | Format::Wide => Ok(for_people(answers, layout, several)),
    }
}

/// A value in one of the two formats of machines.
pub(crate) fn serialize<T: Serialize>(value: &T, format: Format) -> Result<String, Failure> {
    match format {
        Format::Yaml => Ok(serde_saphyr::to_string(value)?),
        _ => Ok(serde_json::to_string_pretty(value)? + "\n"),
    }
}

#[derive(Serialize)]
struct NodeAnswer<'a, T> {
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl<'a, T> NodeAnswer<'a, T> {
    fn of(answer: &'a Answer<T>) -> Self {
        let (value, error) = match &answer.result {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(chain(error))),
        };
        Self {
            node: answer.node.to_string(),
            answer: value,
            error,
        }
    }
}

fn for_people<T: Show>(answers: &[Answer<T>], layout: Layout, several: bool) -> String {
    let detail = Detail {
        wide: layout.format == Format::Wide,
        several,
        now: layout.now,
    };
    let mut texts = String::new();
    let mut whole: Option<Table> = None;
    for answer in answers {
        let Ok(value) = &answer.result else {
            continue;
        };
        match value.show(detail) {
            Body::Text(text) if several => {
                texts.push_str(&format!("== {}\n{text}\n", answer.node));
            }
            Body::Text(text) => texts.push_str(&text),
            Body::Table(mut table) => {
                if several {
                    table.prefix("NODE", &answer.node.to_string());
                }
                match &mut whole {
                    None => whole = Some(table),
                    Some(whole) => whole.append(table),
                }
            }
        }
    }
    texts + &whole.map_or_else(String::new, |table| table.render(layout.colour))
}

#[cfg(test)]
mod tests {
    use keelson_client::ConnectError;

    use super::*;

    #[derive(Serialize)]
    struct Name {
        name: &'static str,
    }

    impl Show for Name {
        fn show(&self, _detail: Detail) -> Body {
            let mut table = Table::new(["NAME"]);
            table.row([self.name.into()]);
            Body::Table(table)
        }
    }

    fn answers() -> Vec<Answer<Name>> {
        let answer = |node: &str, result| Answer {
            node: node.parse().unwrap(),
            result,
        };
        vec![
            answer("n1", Ok(Name { name: "a" })),
            answer("n2", Err(ConnectError::Refused.into())),
            answer("n3", Ok(Name { name: "b" })),
        ]
    }

    fn rendered(answers: &[Answer<Name>], format: Format) -> String {
        let layout = Layout {
            format,
            colour: false,
            now: OffsetDateTime::UNIX_EPOCH,
        };
        render(answers, layout).unwrap()
    }

    #[test]
    fn several_nodes_get_a_column_or_an_entry_each() {
        let answers = answers();
        assert_eq!(
            rendered(&answers, Format::Table),
            "NODE   NAME\nn1     a\nn3     b\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&rendered(&answers, Format::Json)).unwrap();
        assert_eq!(json[0]["answer"]["name"], "a");
        assert!(json[1]["error"].as_str().unwrap().contains("listens"));
        assert_eq!(json[2]["node"], "n3");
    }

    #[test]
    fn one_node_is_shown_plainly() {
        let answers = &answers()[..1];
        assert_eq!(rendered(answers, Format::Table), "NAME\na\n");
        assert_eq!(rendered(answers, Format::Yaml), "name: a\n");
        assert_eq!(rendered(answers, Format::Json), "{\n  \"name\": \"a\"\n}\n");
    }
}

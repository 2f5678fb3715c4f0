//! Resume templates: literal text, `{field}`, and `[[phrases]]` that go when a column is absent.
//!
//! A phrase depends on the columns of its fields; one that prints no field, like `[[education level, ]]`, depends on the
//! column that its first word names, which some other phrase must print.

use std::collections::BTreeSet;

use crate::{Error, Result};

/// Fields that may stand before the title in a row: the year, what is fixed, and education (see
/// [`crate::resume::Education`]). Anything else there would show the row to be predicted.
const BEFORE_TITLE: [&str; 6] = [
    "year",
    "education",
    "gender",
    "race",
    "birth_year",
    "dataset",
];

/// A piece of template text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Field(String),
    Optional(Vec<Piece>),
}

/// The three texts of a template, parsed and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    header: Vec<Piece>,
    row: Vec<Piece>,
    end: Vec<Piece>,
}

impl Template {
    /// Parse and check; phrases in brackets are taken as present.
    ///
    /// # Errors
    /// Unbalanced or nested brackets, a brace that opens no field, a title that is missing, repeated, bracketed or in
    /// the header, not preceded by exactly one space or not followed by a newline, a row without its year before the
    /// title, with a field there that belongs after it, or that does not end its line.
    pub fn parse(header: &str, row: &str, end: &str) -> Result<Self> {
        let template = Self {
            header: parse("header", header)?,
            row: parse("row", row)?,
            end: parse("end", end)?,
        };
        check_title(&template)?;
        check_conditions(&template)?;
        check_row(&flat(&template.row, |_| true))?;
        Ok(template)
    }

    /// Resolve the brackets for a set of columns: a phrase stays when all its fields have one.
    ///
    /// # Errors
    /// An unbracketed field without a column.
    pub fn bind(&self, columns: &[String]) -> Result<Self> {
        let has = |field: &str| field == "title" || columns.iter().any(|column| column == field);
        let bound = self.keep(|phrase| conditions(phrase).iter().all(|field| has(field)));
        for (part, pieces) in bound.parts() {
            if let Some(field) = fields(pieces).into_iter().find(|field| !has(field)) {
                return Err(Error::FieldWithoutColumn {
                    field,
                    part,
                    present: columns.to_vec(),
                });
            }
        }
        check_row(&bound.row)?;
        Ok(bound)
    }

    /// Leave out the bracketed phrases that print any of these fields; other brackets stay.
    ///
    /// # Errors
    /// A field that stands in no brackets.
    pub fn without(&self, dropped: &[String]) -> Result<Self> {
        let bracketed: BTreeSet<String> = self
            .parts()
            .iter()
            .flat_map(|(_, pieces)| bracketed(pieces))
            .collect();
        if let Some(field) = dropped.iter().find(|field| !bracketed.contains(*field)) {
            return Err(Error::NotBracketed {
                field: field.clone(),
                bracketed: bracketed.into_iter().collect(),
            });
        }
        let gone = |piece: &Piece| match piece {
            Piece::Optional(phrase) => conditions(phrase)
                .iter()
                .any(|field| dropped.contains(field)),
            _ => false,
        };
        let strip = |pieces: &[Piece]| {
            pieces
                .iter()
                .filter(|piece| !gone(piece))
                .cloned()
                .collect()
        };
        Ok(Self {
            header: strip(&self.header),
            row: strip(&self.row),
            end: strip(&self.end),
        })
    }

    /// Header, row and end as text again.
    pub fn texts(&self) -> [String; 3] {
        [text(&self.header), text(&self.row), text(&self.end)]
    }

    /// Fields of the header, in order, each once.
    pub fn header_fields(&self) -> Vec<String> {
        fields(&self.header)
    }

    /// Fields of the row, in order, each once; `title` is among them.
    pub fn row_fields(&self) -> Vec<String> {
        fields(&self.row)
    }

    /// No brackets are left.
    pub fn is_bound(&self) -> bool {
        self.parts().iter().all(|(_, pieces)| {
            !pieces
                .iter()
                .any(|piece| matches!(piece, Piece::Optional(_)))
        })
    }

    pub(crate) fn header(&self) -> &[Piece] {
        &self.header
    }

    pub(crate) fn row(&self) -> &[Piece] {
        &self.row
    }

    fn parts(&self) -> [(&'static str, &[Piece]); 3] {
        [
            ("header", &self.header),
            ("row", &self.row),
            ("end", &self.end),
        ]
    }

    fn keep(&self, present: impl Fn(&[Piece]) -> bool + Copy) -> Self {
        Self {
            header: flat(&self.header, present),
            row: flat(&self.row, present),
            end: flat(&self.end, present),
        }
    }
}

/// Dissolve the brackets: phrases for which `present` holds stay as plain text, the others go.
fn flat(pieces: &[Piece], present: impl Fn(&[Piece]) -> bool) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    for piece in pieces {
        let kept = match piece {
            Piece::Optional(phrase) if present(phrase) => phrase.as_slice(),
            Piece::Optional(_) => &[],
            other => std::slice::from_ref(other),
        };
        for piece in kept {
            match (out.last_mut(), piece) {
                (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(text),
                _ => out.push(piece.clone()),
            }
        }
    }
    out
}

/// Fields of pieces, those in brackets too, in order, each once.
fn fields(pieces: &[Piece]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for piece in pieces {
        let found = match piece {
            Piece::Text(_) => Vec::new(),
            Piece::Field(name) => vec![name.clone()],
            Piece::Optional(phrase) => fields(phrase),
        };
        for name in found {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

fn phrases(pieces: &[Piece]) -> impl Iterator<Item = &[Piece]> {
    pieces.iter().filter_map(|piece| match piece {
        Piece::Optional(phrase) => Some(phrase.as_slice()),
        _ => None,
    })
}

/// Columns that a phrase depends on.
fn conditions(phrase: &[Piece]) -> Vec<String> {
    let printed = fields(phrase);
    match phrase.first() {
        Some(Piece::Text(text)) if printed.is_empty() => {
            let other = |letter: char| !letter.is_alphanumeric() && letter != '_';
            text.trim_start_matches(other)
                .split(other)
                .take(1)
                .map(str::to_owned)
                .collect()
        }
        _ => printed,
    }
}

/// Columns that the phrases of a part depend on.
fn bracketed(pieces: &[Piece]) -> Vec<String> {
    phrases(pieces).flat_map(conditions).collect()
}

fn text(pieces: &[Piece]) -> String {
    let one = |piece: &Piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Field(name) => format!("{{{name}}}"),
        Piece::Optional(phrase) => format!("[[{}]]", text(phrase)),
    };
    pieces.iter().map(one).collect()
}

fn parse(part: &'static str, source: &str) -> Result<Vec<Piece>> {
    let (mut pieces, mut phrase, mut rest, mut at) = (Vec::new(), None, source, 0);
    let wrong = |at: usize, reason: &str| Error::Syntax {
        part,
        at,
        reason: reason.to_owned(),
    };
    while !rest.is_empty() {
        let length = if rest.starts_with("[[") {
            if phrase.replace((at, Vec::new())).is_some() {
                return Err(wrong(
                    at,
                    "'[[' inside '[[ … ]]'; brackets do not nest, close the first phrase",
                ));
            }
            2
        } else if rest.starts_with("]]") {
            let Some((_, inside)) = phrase.take() else {
                return Err(wrong(
                    at,
                    "']]' without its '[['; open the phrase or drop the brackets",
                ));
            };
            pieces.push(Piece::Optional(inside));
            2
        } else {
            let (piece, length) = match rest.strip_prefix('{') {
                Some(inside) => field(inside).ok_or_else(|| {
                    wrong(
                        at,
                        "'{' opens no field; write {name} with letters, digits and underscores",
                    )
                })?,
                None if rest.starts_with('}') => {
                    return Err(wrong(at, "'}' closes no field; write {name}"));
                }
                None => literal(rest),
            };
            phrase
                .as_mut()
                .map_or(&mut pieces, |(_, inside)| inside)
                .push(piece);
            length
        };
        at += rest[..length].chars().count();
        rest = &rest[length..];
    }
    match phrase {
        Some((opened, _)) => Err(wrong(opened, "'[[' without its ']]'; close the phrase")),
        None => Ok(pieces),
    }
}

/// A field whose brace is open, and the bytes it takes with both braces.
fn field(inside: &str) -> Option<(Piece, usize)> {
    let (name, _) = inside.split_once('}')?;
    let letters = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let named = letters
        && name
            .bytes()
            .next()
            .is_some_and(|byte| !byte.is_ascii_digit());
    named.then(|| (Piece::Field(name.to_owned()), name.len() + 2))
}

/// Text up to the next brace or double bracket, and its length in bytes (at least one character).
fn literal(rest: &str) -> (Piece, usize) {
    let stops = rest.char_indices().skip(1).find(|&(at, letter)| {
        letter == '{'
            || letter == '}'
            || rest[at..].starts_with("[[")
            || rest[at..].starts_with("]]")
    });
    let length = stops.map_or(rest.len(), |(at, _)| at);
    (Piece::Text(rest[..length].to_owned()), length)
}

/// One `{title}`, unbracketed, in the row; no field in the end.
fn check_title(template: &Template) -> Result<()> {
    let misplaced = |field: &str, part: &'static str, way_out: &str| {
        Err(Error::Misplaced {
            field: field.to_owned(),
            part,
            way_out: way_out.to_owned(),
        })
    };
    for (part, pieces) in template.parts() {
        let names = fields(pieces);
        if names.iter().any(|name| name == "occupation") {
            return misplaced("occupation", part, "write {title}, once, in the row");
        }
        if part != "row" && names.iter().any(|name| name == "title") {
            return misplaced(
                "title",
                part,
                "it belongs into the row alone, or the header would give it away",
            );
        }
        if bracketed(pieces).iter().any(|name| name == "title") {
            return misplaced("title", part, "it cannot stand in brackets");
        }
    }
    match fields(&template.end).first() {
        Some(field) => misplaced(
            field,
            "end",
            "the end is the same for every worker: move the field to the header or the row",
        ),
        None => Ok(()),
    }
}

/// What a phrase depends on is printed somewhere, or the phrase would come and go by accident.
fn check_conditions(template: &Template) -> Result<()> {
    let printed: Vec<String> = template
        .parts()
        .iter()
        .flat_map(|(_, pieces)| fields(pieces))
        .collect();
    for (part, pieces) in template.parts() {
        if let Some(phrase) = phrases(pieces)
            .find(|phrase| !conditions(phrase).iter().any(|name| printed.contains(name)))
        {
            return Err(Error::LoosePhrase {
                part,
                phrase: text(phrase),
            });
        }
    }
    Ok(())
}

/// `… {year} … {title}\n …` with nothing of the row to be predicted before the title, and a closed line.
fn check_row(row: &[Piece]) -> Result<()> {
    let wrong = |reason: &str| {
        Err(Error::RowForm {
            reason: reason.to_owned(),
        })
    };
    let is_title = |piece: &Piece| matches!(piece, Piece::Field(name) if name == "title");
    let Some(at) = row.iter().position(is_title) else {
        return wrong("prints no {title}; write the title once, as in '{year}: {title}\\n'");
    };
    if row.iter().skip(at + 1).any(is_title) {
        return wrong("prints {title} twice; write it once");
    }
    let spaced = match at.checked_sub(1).and_then(|before| row.get(before)) {
        Some(Piece::Text(text)) => text.ends_with(' ') && !text.ends_with("  "),
        _ => false,
    };
    if !spaced {
        return wrong("needs exactly one space before {title}: the prompt ends before it");
    }
    if !matches!(row.get(at + 1), Some(Piece::Text(text)) if text.starts_with('\n')) {
        return wrong("needs a newline right after {title}: it is the title's terminator");
    }
    let before = fields(&row[..at]);
    if !before.iter().any(|name| name == "year") {
        return wrong(
            "does not print {year} before {title}; write it there, as in '{year}: {title}\\n'",
        );
    }
    if let Some(field) = before
        .into_iter()
        .find(|name| !BEFORE_TITLE.contains(&name.as_str()))
    {
        let way_out =
            "before {title} it would show the row to be predicted: move it behind the title"
                .to_owned();
        return Err(Error::Misplaced {
            field,
            part: "row",
            way_out,
        });
    }
    match row.last() {
        Some(Piece::Text(text)) if text.ends_with('\n') => Ok(()),
        _ => wrong("does not end in a newline; the next row would continue its line"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "{year}[[ ({education})]]: {title}\n";

    fn columns(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn phrases_go_with_their_columns() {
        let template = Template::parse("A {gender} worker[[ of {region}]].\n", ROW, "end").unwrap();
        let bound = template
            .bind(&columns(&["gender", "year", "education"]))
            .unwrap();
        assert_eq!(
            bound.texts(),
            [
                "A {gender} worker.\n",
                "{year} ({education}): {title}\n",
                "end"
            ]
        );
        assert!(bound.is_bound() && !template.is_bound());
        assert_eq!(bound.row_fields(), ["year", "education", "title"]);
        let error = template.bind(&columns(&["year"])).unwrap_err();
        assert!(
            matches!(error, Error::FieldWithoutColumn { ref field, part: "header", .. } if field == "gender")
        );
    }

    #[test]
    fn a_phrase_is_left_out_on_request_only_from_brackets() {
        let template = Template::parse("{gender}\n", ROW, "").unwrap();
        assert_eq!(
            template.without(&columns(&["education"])).unwrap().texts()[1],
            "{year}: {title}\n"
        );
        assert!(matches!(
            template.without(&columns(&["gender"])),
            Err(Error::NotBracketed { .. })
        ));
    }

    #[test]
    fn text_that_is_no_template_names_its_place() {
        for (header, place) in [
            ("ä[[x", 1),
            ("a]]", 1),
            ("[[{x} [[{y}]]]]", 6),
            ("{x", 0),
            ("é {1x}", 2),
            ("}", 0),
        ] {
            match Template::parse(header, ROW, "") {
                Err(Error::Syntax {
                    part: "header", at, ..
                }) => assert_eq!(at, place, "{header}"),
                other => panic!("{header}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_phrase_without_a_field_goes_with_the_column_its_first_word_names() {
        let template = Template::parse("year, [[education level, ]]title\n", ROW, "").unwrap();
        assert_eq!(
            template.bind(&columns(&["year"])).unwrap().texts()[0],
            "year, title\n"
        );
        assert_eq!(
            template
                .bind(&columns(&["year", "education"]))
                .unwrap()
                .texts()[0],
            "year, education level, title\n"
        );
        assert_eq!(
            template.without(&columns(&["education"])).unwrap().texts()[0],
            "year, title\n"
        );
        for loose in ["[[region of birth]]", "[[...]]", "[[]]"] {
            assert!(
                matches!(
                    Template::parse(loose, ROW, ""),
                    Err(Error::LoosePhrase { part: "header", .. })
                ),
                "{loose}"
            );
        }
    }

    #[test]
    fn a_row_reads_year_then_title_then_newline() {
        for row in [
            "{year}\n",
            "{year}: {title}",
            "{year}:{title}\n",
            "{year}:  {title}\n",
            "{title}\n",
            ": {title}\n",
            "{year}: {title} {title}\n",
            "{year}: {title}.\n",
            "{year}: {title}\n{wage}",
            "{year}: {title}[[ {x}]]\n",
        ] {
            assert!(
                matches!(Template::parse("", row, ""), Err(Error::RowForm { .. })),
                "{row:?}"
            );
        }
        for (header, row, end) in [
            ("{title}", ROW, ""),
            ("", "{year} {wage}: {title}\n", ""),
            ("", "{year}[[: {title}\n]]", ""),
            ("", ROW, "{year}"),
            ("{occupation}", ROW, ""),
        ] {
            assert!(
                matches!(
                    Template::parse(header, row, end),
                    Err(Error::Misplaced { .. })
                ),
                "{header:?} {row:?}"
            );
        }
        assert!(Template::parse("", "{year}: {title}\npaid {wage}\n", "").is_ok());
    }
}

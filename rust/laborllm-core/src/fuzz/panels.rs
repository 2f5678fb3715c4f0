//! Small panels in any layout, order and batches, checked whole and as a stream, beside a slow twin.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchIterator};
use arrow_cast::cast;
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::layouts::{integer_kind, integers, text_kind, texts};
use super::twin::{Id, Panel, Row, Rules, check as slow_check};
use super::{Choices, one_line};
use crate::panel::{self, Checked, Options, Report};
use crate::resume::{Choice, Education, Form, render};
use crate::stream::Stream;
use crate::template::Template;
use crate::{Error, Result};

const TITLES: [&str; 4] = ["Cooks", "Köche", "Cooks, short order", "料理人"];

/// Type of each column that came, in order, and rows.
struct Input {
    kinds: Vec<(&'static str, DataType)>,
    rows: Vec<Row>,
}

/// A check, a stream and a print agree with the twin, or all refuse.
pub fn panels(data: &[u8]) {
    let mut choices = Choices(data);
    let rules = Rules {
        tag: choices.one_of(&[None, None, Some("PSID"), Some("")]),
        drop_nulls: choices.once_in(3),
        titles: &TITLES,
    };
    let input = Input::drawn(&mut choices);
    let batches = input.batches(&mut choices);
    let options = Options {
        codes: (0..TITLES.len())
            .map(|code| (10 * code).to_string())
            .collect(),
        titles: TITLES.map(str::to_owned).to_vec(),
        dataset: rules.tag.map(str::to_owned),
        drop_null_occupations: rules.drop_nulls,
        ..Options::default()
    };
    let expected = slow_check(&input.rows, rules);
    let found = panel::check(&input.schema(), &batches, &options);
    assert_same(&found, expected.as_ref());
    let stream = streamed(&input, &batches, options, 1 + choices.below(9));
    compare_stream(&input.rows, &stream, expected.as_ref(), rules);
    if let (Ok(found), Some(expected)) = (found, expected) {
        let bytes = choices.below(200);
        assert_eq!(printed(&found.batch, bytes), expected.texts());
    }
}

impl Input {
    fn drawn(choices: &mut Choices<'_>) -> Self {
        let dataset = text_kind(choices);
        let (numbers, low, high) = integer_kind(choices);
        let text_ids = choices.once_in(3);
        let (years, first, last) = integer_kind(choices);
        let codes = choices.once_in(4).then(|| integer_kind(choices).0);
        let (born, ..) = integer_kind(choices);
        let mut kinds = vec![
            (
                "worker_id",
                if text_ids {
                    text_kind(choices)
                } else {
                    numbers
                },
            ),
            ("year", years),
            ("occupation", codes.unwrap_or_else(|| text_kind(choices))),
            ("gender", text_kind(choices)),
            ("birth_year", born),
            ("education", text_kind(choices)),
            ("region", text_kind(choices)),
            ("hours", integer_kind(choices).0),
        ];
        let tags: &[Option<&str>] = match choices.below(8) {
            0 => &[None, Some(""), Some("PSID")],
            1..4 => &[None],
            4 | 5 => &[Some("PSID")],
            _ => &[Some("PSID"), Some("Été")],
        };
        if tags.len() > 1 || choices.once_in(2) {
            kinds.insert(0, ("dataset", dataset));
        }
        let tags = if kinds[0].0 == "dataset" {
            tags
        } else {
            &[None]
        };
        let limits = [(low, high), (first, last)];
        let many = choices.below(24);
        let mut rows: Vec<Row> = (0..many)
            .map(|_| row(choices, tags, text_ids, limits))
            .collect();
        if choices.once_in(2) {
            rows.sort_by_key(|row| (row.dataset, row.id.clone(), row.year));
            rows.dedup_by_key(|row| row.key());
        }
        Self { kinds, rows }
    }

    fn schema(&self) -> SchemaRef {
        let fields = self
            .kinds
            .iter()
            .map(|(name, kind)| Field::new(*name, kind.clone(), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The rows in batches of any size, each cut out of a larger one.
    fn batches(&self, choices: &mut Choices<'_>) -> Vec<RecordBatch> {
        let (schema, mut batches, mut at) = (self.schema(), Vec::new(), 0);
        while at < self.rows.len() {
            let rows = choices.below(self.rows.len() - at + 1);
            let before = choices.below(at + 1).min(3);
            if rows == 0 && batches.len() > self.rows.len() {
                break;
            }
            let part = &self.rows[at - before..at + rows];
            let columns = self
                .kinds
                .iter()
                .map(|(name, kind)| column(choices, part, name, kind));
            let whole = RecordBatch::try_new(schema.clone(), columns.collect()).unwrap();
            batches.push(whole.slice(before, rows));
            at += rows;
        }
        if at < self.rows.len() {
            let columns = self.kinds.iter();
            let columns = columns.map(|(name, kind)| column(choices, &self.rows[at..], name, kind));
            batches.push(RecordBatch::try_new(schema, columns.collect()).unwrap());
        }
        batches
    }
}

fn row(
    choices: &mut Choices<'_>,
    tags: &[Option<&'static str>],
    text_ids: bool,
    [(low, high), (first, last)]: [(i128, i128); 2],
) -> Row {
    let dataset = choices.one_of(tags).filter(|tag| !tag.is_empty());
    let id = match (choices.below(64), text_ids) {
        (63, _) => None,
        (at, true) => Some(Id::Text(["a", "A", "é", "10\n", "9", "\0料"][at % 6])),
        (at, false) => Some(Id::Number(
            [0, 1, 2, 10, low, high][at % 6].clamp(low, high),
        )),
    };
    let year = match choices.below(64) {
        63 => None,
        62 => Some(first),
        61 => Some(last),
        at => Some((1984 + at as i128 % 16).min(last - at as i128 % 16)),
    };
    let occupation = match choices.below(64) {
        63 => Some("Cook"),
        60..63 => None,
        at => Some(TITLES[at % TITLES.len()]),
    };
    let lived = id.as_ref().map_or(0, |id| match id {
        Id::Number(number) => *number,
        Id::Text(text) => text.len() as i128,
    });
    let fixed = if choices.once_in(64) {
        lived + 1
    } else {
        lived
    };
    let mut others = BTreeMap::new();
    let mut put = |name, value: String, known: bool| others.insert(name, known.then_some(value));
    put(
        "gender",
        ["female", "m"][(fixed & 1) as usize].to_owned(),
        !choices.once_in(4),
    );
    put(
        "birth_year",
        (60 + (fixed & 3)).to_string(),
        !choices.once_in(4),
    );
    put(
        "education",
        choices.one_of(&["school", "collège"]).to_owned(),
        !choices.once_in(5),
    );
    put(
        "region",
        choices.one_of(&["north", "süd"]).to_owned(),
        !choices.once_in(5),
    );
    put(
        "hours",
        choices.one_of(&["0", "40", "99"]).to_owned(),
        !choices.once_in(5),
    );
    Row {
        dataset,
        id,
        year,
        occupation,
        others,
    }
}

/// One column of these rows; null text is null or empty.
fn column(choices: &mut Choices<'_>, rows: &[Row], name: &str, kind: &DataType) -> ArrayRef {
    let numbers = |value: &dyn Fn(&Row) -> Option<i128>| rows.iter().map(value).collect::<Vec<_>>();
    let code = |row: &Row| {
        let title = row.occupation?;
        let at = TITLES.iter().position(|known| *known == title);
        Some(at.map_or(77, |at| 10 * at as i128))
    };
    let text = crate::columns::is_text(kind);
    let numbers = match name {
        "year" => numbers(&|row| row.year),
        "occupation" if !text => numbers(&code),
        "worker_id" if !text => numbers(&|row| match row.id {
            Some(Id::Number(number)) => Some(number),
            _ => None,
        }),
        "birth_year" | "hours" => numbers(&|row| row.others[name].as_ref()?.parse().ok()),
        _ => Vec::new(),
    };
    if !text {
        return integers(choices, &numbers, kind);
    }
    let empty = choices.once_in(2).then_some("");
    let value = |row: &'_ Row| -> Option<String> {
        match name {
            "dataset" => row.dataset.map(str::to_owned),
            "occupation" => row.occupation.map(str::to_owned),
            "worker_id" => match row.id {
                Some(Id::Text(text)) => Some(text.to_owned()),
                _ => None,
            },
            _ => row.others[name].clone(),
        }
    };
    let values: Vec<Option<String>> = rows.iter().map(value).collect();
    let values: Vec<Option<&str>> = values
        .iter()
        .map(|value| value.as_deref().or(empty))
        .collect();
    texts(choices, &values, kind)
}

fn assert_same(found: &Result<Checked>, expected: Option<&Panel>) {
    match (found, expected) {
        (Ok(found), Some(expected)) => {
            assert_eq!(
                cells(&found.batch),
                rows_of(expected, &found.batch.schema())
            );
            assert_eq!(found.report, expected.report);
            let workers: Vec<i64> = found
                .starts
                .windows(2)
                .map(|pair| pair[1] - pair[0])
                .collect();
            let sizes: Vec<i64> = expected
                .workers()
                .iter()
                .map(|rows| rows.len() as i64)
                .collect();
            assert_eq!((found.starts[0], workers), (0, sizes));
        }
        (Err(error), None) => one_line(error),
        (found, expected) => unreachable!("{:?} beside {expected:?}", found.as_ref().err()),
    }
}

/// Checked rows as text, column by column.
fn cells(batch: &RecordBatch) -> Vec<Vec<Option<String>>> {
    let texts = batch.columns().iter().map(|array| {
        array.to_data().validate_full().unwrap();
        let texts = cast(array, &DataType::LargeUtf8).unwrap();
        let texts = texts.as_string::<i64>().iter();
        texts.map(|text| text.map(str::to_owned)).collect()
    });
    texts.collect()
}

fn rows_of(panel: &Panel, schema: &Schema) -> Vec<Vec<Option<String>>> {
    let value = |row: &Row, name: &str| match name {
        "dataset" => row.dataset.map(str::to_owned),
        "worker_id" => row.id.as_ref().map(|id| match id {
            Id::Number(number) => number.to_string(),
            Id::Text(text) => (*text).to_owned(),
        }),
        "year" => row.year.map(|year| year.to_string()),
        "occupation" => row.occupation.map(str::to_owned),
        _ => row.others[name].clone(),
    };
    let names = schema.fields().iter().map(|field| field.name());
    names
        .map(|name| panel.rows.iter().map(|row| value(row, name)).collect())
        .collect()
}

/// All pieces of a stream and what was counted, or its first error.
fn streamed(
    input: &Input,
    batches: &[RecordBatch],
    options: Options,
    piece_rows: usize,
) -> Result<(Vec<Checked>, Report)> {
    let source = batches.iter().cloned().map(Ok).collect::<Vec<_>>();
    let source = RecordBatchIterator::new(source, input.schema());
    let stream = Stream::new(Box::new(source), options, None, piece_rows);
    let report = stream.report();
    let pieces = stream.collect::<Result<Vec<_>>>()?;
    let report = report.lock().unwrap().clone();
    Ok((pieces, report))
}

/// A stream that ascends is the panel; one whose kept rows fall is refused.
fn compare_stream(
    rows: &[Row],
    found: &Result<(Vec<Checked>, Report)>,
    expected: Option<&Panel>,
    rules: Rules,
) {
    let keys = |kept: &dyn Fn(&&Row) -> bool| -> Vec<_> {
        rows.iter()
            .filter(kept)
            .map(|row| (row.dataset, row.id.clone()))
            .collect()
    };
    let ascend = keys(&|_| true).is_sorted();
    let kept_ascend = keys(&|row| row.occupation.is_some() || !rules.drop_nulls).is_sorted();
    match (found, expected) {
        (Ok((pieces, report)), Some(expected)) if kept_ascend => {
            let mut whole = vec![Vec::new(); pieces[0].batch.num_columns()];
            for piece in pieces {
                whole
                    .iter_mut()
                    .zip(cells(&piece.batch))
                    .for_each(|(all, own)| all.extend(own));
            }
            assert_eq!(whole, rows_of(expected, &pieces[0].batch.schema()));
            assert_eq!(report, &expected.report);
        }
        (Err(error), None) => one_line(error),
        (Err(error), Some(_)) if !ascend => one_line(error),
        (found, expected) => unreachable!("{:?} beside {expected:?}", found.as_ref().err()),
    }
}

/// The texts of a panel, None where it has no tag or a value would break its line.
pub(super) fn printed(panel: &RecordBatch, batch_bytes: usize) -> Option<Vec<String>> {
    let template = Template::parse(
        "{dataset} {gender}\n",
        "{year} ({education}): {title}\n{region} {hours}\n",
        "end",
    );
    let words = ["gender", "education", "region", "hours"];
    let form = Form {
        template: template.unwrap(),
        missing: words.map(|name| (name.to_owned(), "?".to_owned())).into(),
        education: Education::Target,
        metadata: HashMap::new(),
        batch_bytes,
        prompts: true,
    };
    let batches = match render(panel.clone(), form, Choice::default()) {
        Err(Error::NoTag | Error::FieldText { .. }) => return None,
        rendered => rendered.unwrap(),
    };
    let mut texts = Vec::new();
    for batch in batches.map(Result::unwrap) {
        for column in batch.columns() {
            column.to_data().validate_full().unwrap();
        }
        let resumes = batch
            .column_by_name("resume")
            .unwrap()
            .as_string::<i64>()
            .clone();
        texts.extend(resumes.iter().flatten().map(str::to_owned));
    }
    Some(texts)
}

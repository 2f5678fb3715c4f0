//! What a check and a print of rows must give, the slow and obvious way.

use std::collections::BTreeMap;

use crate::panel::{FIXED, Report};

/// A worker id; numbers are ordered by value, text bytewise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Id {
    Number(i128),
    Text(&'static str),
}

/// A row as it came in; None and the empty text are null.
#[derive(Debug, Clone)]
pub struct Row {
    pub dataset: Option<&'static str>,
    pub id: Option<Id>,
    pub year: Option<i128>,
    pub occupation: Option<&'static str>,
    pub others: BTreeMap<&'static str, Option<String>>,
}

/// Dataset, worker and year.
pub type Key = (&'static str, Id, i128);

impl Row {
    pub fn key(&self) -> Option<Key> {
        let dataset = self.dataset.unwrap_or_default();
        Some((dataset, self.id.clone()?, self.year?))
    }
}

/// What the check is told.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub tag: Option<&'static str>,
    pub drop_nulls: bool,
    pub titles: &'static [&'static str],
}

/// Checked rows in order, and what was counted.
#[derive(Debug, Clone)]
pub struct Panel {
    pub rows: Vec<Row>,
    pub report: Report,
}

impl Panel {
    /// Rows of each worker.
    pub fn workers(&self) -> Vec<&[Row]> {
        let same = |a: &Row, b: &Row| (a.dataset, &a.id) == (b.dataset, &b.id);
        self.rows.chunk_by(same).collect()
    }
}

/// The checked panel, or None where rows break the contract.
pub fn check(rows: &[Row], rules: Rules) -> Option<Panel> {
    let mut rows = tagged(rows, rules.tag)?;
    let rows_in = rows.len() as u64;
    let printable = |row: &Row| row.year.is_some_and(|year| i32::try_from(year).is_ok());
    if !rows.iter().all(|row| row.id.is_some() && printable(row)) {
        return None;
    }
    rows.retain(|row| row.occupation.is_some() || !rules.drop_nulls);
    let known = |row: &Row| {
        row.occupation
            .is_some_and(|title| rules.titles.contains(&title))
    };
    if rows.is_empty() || !rows.iter().all(known) {
        return None;
    }
    rows.sort_by_key(Row::key);
    if rows.windows(2).any(|pair| pair[0].key() == pair[1].key()) {
        return None;
    }
    let report = Report {
        rows_in,
        dropped: rows_in - rows.len() as u64,
        ..Report::default()
    };
    let mut panel = Panel { rows, report };
    panel.fill()?;
    panel.count();
    Some(panel)
}

/// Rows with the tag in place of datasets that are all null.
fn tagged(rows: &[Row], tag: Option<&'static str>) -> Option<Vec<Row>> {
    let mut rows = rows.to_vec();
    if rows.iter().all(|row| row.dataset.is_none()) {
        rows.iter_mut()
            .for_each(|row| row.dataset = Some(tag.unwrap_or_default()));
    }
    let fits = |row: &Row| {
        row.dataset
            .is_some_and(|own| tag.is_none_or(|tag| tag == own))
    };
    rows.iter().all(fits).then_some(rows)
}

impl Panel {
    /// Fixed fields take the worker's one value.
    fn fill(&mut self) -> Option<()> {
        let same = |a: &Row, b: &Row| (a.dataset, &a.id) == (b.dataset, &b.id);
        for worker in self.rows.chunk_by_mut(same) {
            for name in FIXED {
                let known = worker
                    .iter()
                    .filter_map(|row| row.others.get(name)?.clone());
                let mut known: Vec<String> = known.collect();
                known.dedup();
                match known.as_slice() {
                    [] => {}
                    [one] => worker.iter_mut().for_each(|row| {
                        row.others.insert(name, Some(one.clone()));
                    }),
                    _ => return None,
                }
            }
        }
        Some(())
    }

    fn count(&mut self) {
        let mut report = self.report.clone();
        for worker in self.workers() {
            let of = |name: &str| -> Vec<&String> {
                worker
                    .iter()
                    .filter_map(|row| row.others.get(name)?.as_ref())
                    .collect()
            };
            let mut levels = of("education");
            levels.dedup();
            let returns = |at: usize| levels[..at].contains(&levels[at]);
            report.education_falls += (0..levels.len()).filter(|&at| returns(at)).count() as u64;
            if of("region").windows(2).any(|pair| pair[0] != pair[1]) {
                *report.changed.entry("region".to_owned()).or_default() += 1;
            }
        }
        self.report = report;
    }

    /// One text per worker, in the form of [`super::panels`]; None where a row has no dataset.
    pub fn texts(&self) -> Option<Vec<String>> {
        if self
            .rows
            .iter()
            .any(|row| row.dataset.is_none_or(str::is_empty))
        {
            return None;
        }
        Some(self.workers().into_iter().map(text).collect())
    }
}

fn text(worker: &[Row]) -> String {
    let shown = |row: &Row, name: &str| row.others[name].clone().unwrap_or("?".to_owned());
    let head = &worker[0];
    let mut text = format!(
        "{} {}\n",
        head.dataset.unwrap_or_default(),
        shown(head, "gender")
    );
    for row in worker {
        let (year, title) = (
            row.year.unwrap_or_default(),
            row.occupation.unwrap_or_default(),
        );
        let (level, region) = (shown(row, "education"), shown(row, "region"));
        text.push_str(&format!(
            "{year} ({level}): {title}\n{region} {}\n",
            shown(row, "hours")
        ));
    }
    text + "end"
}

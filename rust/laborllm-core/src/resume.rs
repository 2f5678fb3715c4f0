//! Careers as text: header, one piece of text per row, and the end, with the byte span of every title.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Int64Array, LargeListArray, LargeStringArray, RecordBatch,
};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use crate::careers::{Careers, Panels, Plan, Planner, Renderer, evenly, fields, first_rows};
use crate::fragments::Table;
use crate::pool::Recycled;
use crate::printing::{Part, Press, Printed};
use crate::segments::{Cuts, Segments};
use crate::template::Template;
use crate::windows::Windows;
use crate::{Error, Result};

/// Which education stands before a title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Education {
    /// That of the row itself, as in the paper.
    Target,
    /// That of the row before, for forecasts; the first row of a worker shows the missing word.
    Previous,
}

impl std::str::FromStr for Education {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "target" => Ok(Self::Target),
            "previous" => Ok(Self::Previous),
            _ => Err(Error::EducationChoice {
                found: word.to_owned(),
            }),
        }
    }
}

/// What to print, beside the panel.
#[derive(Debug, Clone)]
pub struct Form {
    /// The text, bound to the panel's columns.
    pub template: Template,
    /// The word for a null of each field.
    pub missing: HashMap<String, String>,
    /// Which education stands before a title.
    pub education: Education,
    /// Metadata of the schema.
    pub metadata: HashMap<String, String>,
    /// Text per batch in bytes, about; a batch ends with a career.
    pub batch_bytes: usize,
}

impl Form {
    /// Segments of the header, one row per worker, and of the row.
    pub(crate) fn segments(
        &self,
        panel: &RecordBatch,
        windows: &Windows,
        cuts: Cuts,
    ) -> Result<(Segments, Segments)> {
        let heads = first_rows(panel, &self.template, windows)?;
        let starts = windows.starts.values();
        let lagged = (self.education == Education::Previous)
            .then_some(("education", &starts[..starts.len() - 1]));
        let header = Segments::new(self.template.header(), &heads, &self.missing, cuts, None)?;
        let row = Segments::new(self.template.row(), panel, &self.missing, cuts, lagged)?;
        Ok((header, row))
    }
}

/// Rows of one panel to be printed.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// First row of each worker, then the number of rows, as [`crate::panel::check`] gives them. None: to be found.
    pub starts: Option<Int64Array>,
    /// Whether each worker's last row ends the career; the end is printed for those. None: all of them.
    pub complete: Option<BooleanArray>,
    /// Row ranges [first, stop), each inside one worker; None: every worker's whole career.
    pub windows: Option<(Int64Array, Int64Array)>,
}

/// One panel's resumes.
struct Resumes {
    careers: Careers,
    press: Press<u8, 64>,
    batch_bytes: usize,
    schema: SchemaRef,
}

/// Print one panel; it is the batch of [`crate::panel::check`], or whole workers or slices of it.
///
/// # Errors
/// A template that is not bound or prints what the panel cannot give, rows that do not come from a check, a window
/// that is no range of rows of one worker.
pub fn render(panel: RecordBatch, form: Form, choice: Choice) -> Result<Renderer> {
    let schema = schema(&panel.schema(), &form)?;
    let plan: Arc<dyn Plan> = Arc::new(Resumes::new(&panel, &form, choice, schema.clone())?);
    Ok(Renderer::of(schema, plan))
}

/// Print a stream of panels with one schema, each of whole workers.
///
/// # Errors
/// As [`render`], for what can be seen from the schema; the rest comes with the batch that it is in.
pub fn render_stream(panel: &Schema, panels: Panels, form: Form) -> Result<Renderer> {
    let schema = schema(panel, &form)?;
    let own = schema.clone();
    let planner: Planner = Box::new(move |piece| {
        let choice = Choice {
            starts: Some(piece.starts.into()),
            ..Choice::default()
        };
        let plan = Resumes::new(&piece.batch, &form, choice, own.clone())?;
        Ok(Arc::new(plan))
    });
    Ok(Renderer::over(schema, panels, planner))
}

impl Resumes {
    fn new(panel: &RecordBatch, form: &Form, choice: Choice, schema: SchemaRef) -> Result<Self> {
        let careers = Careers::new(panel)?;
        careers.check_tag(&form.template)?;
        let windows = careers.windows(choice)?;
        let (header, row) = form.segments(panel, &windows, Cuts::Fields)?;
        let [_, _, end] = form.template.texts();
        let press = Press {
            header: part(header),
            row: part(row),
            end: end.into_bytes(),
            windows,
            around: (1, 1),
        };
        Ok(Self {
            careers,
            press,
            batch_bytes: form.batch_bytes,
            schema,
        })
    }
}

impl Plan for Resumes {
    fn batches(&self) -> Vec<Range<usize>> {
        let length = |texts| self.press.length(texts);
        evenly(self.press.windows.len(), self.batch_bytes, length)
    }

    fn print(&self, texts: Range<usize>, threads: usize) -> Result<RecordBatch> {
        let Printed {
            texts,
            values,
            offsets,
            starts,
            stops,
        } = self.press.print(texts, threads);
        let rows = OffsetBuffer::from_lengths(texts.iter().map(|text| text.rows.len()));
        let item = Arc::new(Field::new("item", DataType::Int64, true));
        let spans = |values: Recycled<i64>| {
            let values = Int64Array::new(values.into_buffer().into(), None);
            LargeListArray::try_new(item.clone(), rows.clone(), Arc::new(values), None)
        };
        let unreadable = |error| Error::unreadable("resume", &error);
        let offsets = OffsetBuffer::new(offsets.into_buffer().into());
        let resume = text(offsets, values.into_buffer());
        let [dataset, worker_id] = self.careers.who(&texts, &self.press.windows)?;
        let [year, occupation] = self.careers.what(&texts)?;
        let columns: Vec<ArrayRef> = vec![
            dataset,
            worker_id,
            Arc::new(resume.map_err(unreadable)?),
            Arc::new(spans(starts).map_err(unreadable)?),
            Arc::new(spans(stops).map_err(unreadable)?),
            year,
            occupation,
        ];
        RecordBatch::try_new(self.schema.clone(), columns).map_err(unreadable)
    }
}

/// An array of text that was printed from fragments.
#[expect(
    unsafe_code,
    reason = "validating all text anew costs a tenth of the rendering"
)]
fn text(
    offsets: OffsetBuffer<i64>,
    values: Buffer,
) -> std::result::Result<LargeStringArray, ArrowError> {
    if cfg!(debug_assertions) {
        return LargeStringArray::try_new(offsets, values, None);
    }
    // SAFETY: `values` is fragments one after another, each copied whole from a `String`, and so is UTF-8; offsets
    // ascend from 0 to its length and lie between fragments, so that every text is UTF-8 by itself. Tests, which run
    // with debug assertions, validate every array.
    Ok(unsafe { LargeStringArray::new_unchecked(offsets, values, None) })
}

fn part(segments: Segments) -> Part<u8, 64> {
    let table = |one: &crate::segments::Segment| {
        Table::new(one.texts().into_iter().map(String::into_bytes))
    };
    let tables = segments.all.iter().map(table).collect();
    Part::new(segments, tables)
}

fn schema(panel: &Schema, form: &Form) -> Result<SchemaRef> {
    let spans = DataType::LargeList(Arc::new(Field::new("item", DataType::Int64, true)));
    let (who, what) = fields(panel)?;
    let own = [
        Field::new("resume", DataType::LargeUtf8, true),
        Field::new("title_start", spans.clone(), true),
        Field::new("title_end", spans, true),
    ];
    let fields = who.into_iter().chain(own).chain(what);
    let schema = Schema::new(fields.collect::<Vec<_>>());
    Ok(Arc::new(schema.with_metadata(form.metadata.clone())))
}

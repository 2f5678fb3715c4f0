//! Careers as text: header, one piece of text per row, and the end, with the byte span of every title.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Int64Array, LargeListArray, LargeStringArray, ListArray, RecordBatch,
    StringViewArray, builder::make_view,
};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use crate::careers::{Careers, Panels, Plan, Planner, Renderer, fields};
use crate::fragments::Table;
use crate::pool::Recycled;
use crate::printing::{Part, Press, Printed};
use crate::segments::{Cuts, Segments};
use crate::template::Template;
use crate::windows::{Window, Windows};
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
    /// Whether the prompt of every row is given too, as a view of its resume.
    pub prompts: bool,
}

impl Form {
    /// Segments of the header, one row per worker, and of the row.
    pub(crate) fn segments(
        &self,
        panel: &RecordBatch,
        windows: &Windows,
        cuts: Cuts,
    ) -> Result<(Segments, Segments)> {
        let starts = windows.starts.values();
        let heads = starts.slice(0, starts.len() - 1);
        let lagged = (self.education == Education::Previous)
            .then_some(("education", &starts[..starts.len() - 1]));
        let header = Segments::new(
            self.template.header(),
            panel,
            &self.missing,
            cuts,
            Some(&heads),
            None,
        )?;
        let row = Segments::new(
            self.template.row(),
            panel,
            &self.missing,
            cuts,
            None,
            lagged,
        )?;
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
    press: Press<u8, 60>,
    batch_bytes: usize,
    prompts: bool,
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

/// Fragments of text for one panel.
pub(crate) fn press(
    careers: &Careers,
    panel: &RecordBatch,
    form: &Form,
    choice: Choice,
) -> Result<Press<u8, 60>> {
    careers.check_tag(&form.template)?;
    let windows = careers.windows(choice)?;
    let (header, row) = form.segments(panel, &windows, Cuts::Fields)?;
    let [_, _, end] = form.template.texts();
    Ok(Press {
        header: part(header),
        row: part(row),
        end: Table::new([end.into_bytes()]),
        windows,
    })
}

impl Resumes {
    fn new(panel: &RecordBatch, form: &Form, choice: Choice, schema: SchemaRef) -> Result<Self> {
        let careers = Careers::new(panel)?;
        let press = press(&careers, panel, form, choice)?;
        Ok(Self {
            careers,
            press,
            batch_bytes: form.batch_bytes,
            prompts: form.prompts,
            schema,
        })
    }
}

impl Plan for Resumes {
    fn batches(&self) -> Vec<Range<usize>> {
        self.press.batches(self.batch_bytes)
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
        let values = values.into_buffer();
        let prompts = self
            .prompts
            .then(|| prompts(&texts, &offsets, &values, &starts));
        let resume = text(offsets, values);
        let [dataset, worker_id] = self.careers.who(&texts, &self.press.windows)?;
        let [year, occupation] = self.careers.what(&texts)?;
        let mut columns: Vec<ArrayRef> = vec![
            dataset,
            worker_id,
            Arc::new(resume.map_err(unreadable)?),
            Arc::new(spans(starts).map_err(unreadable)?),
            Arc::new(spans(stops).map_err(unreadable)?),
            year,
            occupation,
        ];
        if let Some(prompts) = prompts {
            columns.push(Arc::new(prompts.map_err(unreadable)?));
        }
        RecordBatch::try_new(self.schema.clone(), columns).map_err(unreadable)
    }
}

/// The prompt of every row: its resume up to the space before the title, 16 bytes each beside the text itself.
#[expect(
    unsafe_code,
    reason = "validating every prefix anew reads the text once per row"
)]
fn prompts(
    texts: &[Window],
    offsets: &OffsetBuffer<i64>,
    values: &Buffer,
    starts: &[i64],
) -> std::result::Result<ListArray, ArrowError> {
    let (mut blocks, mut views) = (vec![values.clone()], Vec::with_capacity(starts.len()));
    let (mut base, mut starts) = (0, starts.iter());
    for (text, pair) in texts.iter().zip(offsets.windows(2)) {
        let (from, to) = (pair[0] as usize, pair[1] as usize);
        if to - base > i32::MAX as usize {
            base = from;
            blocks.push(values.slice(base));
        }
        for start in starts.by_ref().take(text.rows.len()) {
            let prompt = &values[from..from + *start as usize - 1];
            views.push(make_view(
                prompt,
                blocks.len() as u32 - 1,
                (from - base) as u32,
            ));
        }
    }
    let prompts = if cfg!(debug_assertions) {
        StringViewArray::try_new(views.into(), blocks, None)?
    } else {
        // SAFETY: every view is made from the bytes that it points at; they begin with a text and end before the
        // space that leads a title, so between characters. Tests, which run with debug assertions, validate them.
        unsafe { StringViewArray::new_unchecked(views.into(), blocks, None) }
    };
    let field = Arc::new(Field::new("item", DataType::Utf8View, true));
    let rows = OffsetBuffer::from_lengths(texts.iter().map(|text| text.rows.len()));
    ListArray::try_new(field, rows, Arc::new(prompts), None)
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

fn part(segments: Segments) -> Part<u8, 60> {
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
    let views = Arc::new(Field::new("item", DataType::Utf8View, true));
    let prompt = Field::new("prompt", DataType::List(views), true);
    let fields = who.into_iter().chain(own).chain(what);
    let fields = fields.chain(form.prompts.then_some(prompt));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    Ok(Arc::new(schema.with_metadata(form.metadata.clone())))
}

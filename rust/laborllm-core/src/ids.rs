//! Careers as token ids, copied from fragments that a tokenizer has encoded once; text is never built.
//!
//! Text is cut behind newlines of the template and before the space that leads a title. Whether the ids of the
//! fragments are those of the whole text is a matter of the tokenizer: whoever encodes them proves it.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, LargeListArray, ListArray, RecordBatch, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};

use crate::careers::{Careers, Plan, Renderer, fields};
use crate::fragments::Table;
use crate::pool::Recycled;
use crate::printing::{Part, Press, Printed};
use crate::resume::{Choice, Form};
use crate::segments::{Cuts, Segment, Segments};
use crate::{Error, Result};

/// The fragments of a panel, place by place; a resume is one text of each place of the header, then one of each
/// place of the row for every row, then the end.
#[derive(Debug, Default)]
pub struct Fragments {
    /// Stretches of the header, each ending in a newline.
    pub header: Vec<Vec<String>>,
    /// Stretches of a row; one of them is a space, the title and its newline.
    pub row: Vec<Vec<String>>,
    /// The end, if the template has one.
    pub end: Vec<Vec<String>>,
}

/// Give the ids of each fragment, place by place.
pub type Encode<'a> = &'a mut dyn FnMut(Fragments) -> Result<Vec<Vec<Vec<i32>>>>;

/// One panel's token table.
struct Tokens {
    careers: Careers,
    press: Press<i32, 15>,
    batch_tokens: usize,
    schema: SchemaRef,
}

/// Print one panel as token ids; see [`crate::resume::render`]. `batch_bytes` of the form are those of the ids.
///
/// # Errors
/// As [`crate::resume::render`], and those of `encode`.
pub fn tokenize(
    panel: RecordBatch,
    form: Form,
    choice: Choice,
    encode: Encode<'_>,
) -> Result<Renderer> {
    let schema = schema(&panel.schema(), &form)?;
    let tokens = Tokens::new(&panel, &form, choice, schema.clone(), encode)?;
    Ok(Renderer::of(schema, Arc::new(tokens)))
}

impl Fragments {
    /// The ids of all fragments, place by place.
    fn encoded(self, encode: Encode<'_>) -> Result<Vec<Vec<Vec<i32>>>> {
        let places = [&self.header, &self.row, &self.end].into_iter().flatten();
        let sought: Vec<usize> = places.map(Vec::len).collect();
        let ids = encode(self)?;
        if ids.iter().map(Vec::len).ne(sought) {
            let reason = "there are not as many lists of ids as fragments".to_owned();
            return Err(Error::Encoder { reason });
        }
        Ok(ids)
    }
}

impl Tokens {
    fn new(
        panel: &RecordBatch,
        form: &Form,
        choice: Choice,
        schema: SchemaRef,
        encode: Encode<'_>,
    ) -> Result<Self> {
        let careers = Careers::new(panel)?;
        careers.check_tag(&form.template)?;
        let windows = careers.windows(choice)?;
        let (header, row) = form.segments(panel, &windows, Cuts::Lines)?;
        let [_, _, end] = form.template.texts();
        let texts = |segments: &Segments| segments.all.iter().map(Segment::texts).collect();
        let fragments = Fragments {
            header: texts(&header),
            row: texts(&row),
            end: if end.is_empty() {
                Vec::new()
            } else {
                vec![vec![end]]
            },
        };
        let mut ids = fragments.encoded(encode)?.into_iter();
        let mut part = |segments: Segments| {
            let tables = ids.by_ref().take(segments.all.len()).map(Table::new);
            let tables = tables.collect();
            Part::new(segments, tables)
        };
        let press = Press {
            header: part(header),
            row: part(row),
            end: Table::new([ids.flatten().flatten().collect()]),
            windows,
        };
        Ok(Self {
            careers,
            press,
            batch_tokens: form.batch_bytes / size_of::<i32>(),
            schema,
        })
    }
}

impl Plan for Tokens {
    fn batches(&self) -> Vec<Range<usize>> {
        self.press.batches(self.batch_tokens)
    }

    fn print(&self, texts: Range<usize>, threads: usize) -> Result<RecordBatch> {
        let Printed {
            texts,
            values,
            offsets,
            starts,
            stops,
        } = self.press.print(texts, threads);
        let unreadable = |error| Error::unreadable("input_ids", &error);
        let whole = |values: Recycled<i32>| -> ArrayRef {
            Arc::new(Int32Array::new(values.into_buffer().into(), None))
        };
        let spans = StructArray::try_new(span_fields(), vec![whole(starts), whole(stops)], None);
        let rows = OffsetBuffer::from_lengths(texts.iter().map(|text| text.rows.len()));
        let spans = Arc::new(spans.map_err(unreadable)?);
        let spans = ListArray::try_new(item(DataType::Struct(span_fields())), rows, spans, None);
        let offsets = OffsetBuffer::new(offsets.into_buffer().into());
        let ids = LargeListArray::try_new(item(DataType::Int32), offsets, whole(values), None);
        let [dataset, worker_id] = self.careers.who(&texts, &self.press.windows)?;
        let [year, occupation] = self.careers.what(&texts)?;
        let columns: Vec<ArrayRef> = vec![
            dataset,
            worker_id,
            year,
            occupation,
            Arc::new(spans.map_err(unreadable)?),
            Arc::new(ids.map_err(unreadable)?),
        ];
        RecordBatch::try_new(self.schema.clone(), columns).map_err(unreadable)
    }
}

fn item(kind: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", kind, true))
}

fn span_fields() -> Fields {
    ["start", "stop"]
        .map(|name| Field::new(name, DataType::Int32, true))
        .into_iter()
        .collect()
}

fn schema(panel: &Schema, form: &Form) -> Result<SchemaRef> {
    let (who, what) = fields(panel)?;
    let own = [
        Field::new(
            "spans",
            DataType::List(item(DataType::Struct(span_fields()))),
            true,
        ),
        Field::new(
            "input_ids",
            DataType::LargeList(item(DataType::Int32)),
            true,
        ),
    ];
    let fields = who.into_iter().chain(what).chain(own);
    let schema = Schema::new(fields.collect::<Vec<_>>());
    Ok(Arc::new(schema.with_metadata(form.metadata.clone())))
}

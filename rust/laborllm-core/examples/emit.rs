//! The copy that printing consists of, beside memcpy of as many bytes on one thread.
//!
//! `cargo run --release -p laborllm-core --example emit [rounds]` prints one line of JSON: medians over the rounds.
//! `valgrind --tool=callgrind --toggle-collect='*fill*' target/release/examples/emit 1` counts its instructions.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, Int32Array, Int64Array, LargeStringArray, RecordBatch,
};
use laborllm_core::probe::{Emitted, emit};
use laborllm_core::resume::{Choice, Education, Form};
use laborllm_core::template::Template;

const WORKERS: u64 = 100_000;
const HEADER: &str = "<A worker from the {dataset} dataset>\nThe following information is available about the work \
    history of a {gender} {race} US worker.\nThe worker was born in {birth_year}.\nThe worker has the following records \
    of work experience, one entry per line, including year, education level, and the job title:\n";

/// A linear congruential generator, Knuth's multiplier: numbers below a bound.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> i32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((self.0 >> 33) % bound) as i32
    }
}

/// Some 12 rows a worker, 330 titles of 16 to 56 bytes by Zipf's law, five levels of education.
fn panel() -> Result<(RecordBatch, Vec<i64>), Box<dyn Error>> {
    let mut random = Random(1);
    let mut columns: [Vec<i32>; 6] = Default::default();
    let (mut ids, mut starts) = (Vec::new(), vec![0]);
    for worker in 0..WORKERS {
        let (gender, race, born) = (random.below(2), random.below(4), 1940 + random.below(20));
        let (level, first) = (random.below(5), 1968 + random.below(20));
        for row in 0..6 + random.below(13) {
            let share = f64::from(random.below(1 << 20)) / f64::from(1 << 20);
            let title = (330f64.powf(share) - 1.0) as i32;
            let values = [first + row, title, level, gender, race, born];
            columns
                .iter_mut()
                .zip(values)
                .for_each(|(column, value)| column.push(value));
            ids.push(worker as i64);
        }
        starts.push(ids.len() as i64);
    }
    let names = |count: usize, least: usize| -> Vec<String> {
        let name = |at: usize| format!("{:T<width$}", at, width = least + at * 7 % 41);
        (0..count).map(name).collect()
    };
    let coded = |keys: Vec<i32>, values: Vec<String>| -> Result<ArrayRef, Box<dyn Error>> {
        let values = Arc::new(LargeStringArray::from(values));
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(
            keys.into(),
            values,
        )?))
    };
    let [year, title, level, gender, race, born] = columns;
    let batch = RecordBatch::try_from_iter(vec![
        (
            "dataset",
            coded(vec![0; ids.len()], vec!["PSID".to_owned()])?,
        ),
        ("worker_id", Arc::new(Int64Array::from(ids)) as ArrayRef),
        ("year", Arc::new(Int32Array::from(year))),
        ("occupation", coded(title, names(330, 16))?),
        ("education", coded(level, names(5, 7))?),
        ("gender", coded(gender, names(2, 4))?),
        ("race", coded(race, names(4, 5))?),
        ("birth_year", Arc::new(Int32Array::from(born))),
    ])?;
    Ok((batch, starts))
}

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: usize = std::env::args()
        .nth(1)
        .map_or(Ok(15), |text| text.parse())?;
    let (panel, starts) = panel()?;
    let form = Form {
        template: Template::parse(HEADER, "{year} ({education}): {title}\n", "<END OF DATA>")?,
        missing: HashMap::new(),
        education: Education::Target,
        metadata: HashMap::new(),
        batch_bytes: 2 << 20,
        prompts: false,
    };
    let choice = Choice {
        starts: Some(starts.into()),
        ..Choice::default()
    };
    let source = vec![7; 256 << 20];
    let run = |_| emit(&panel, &form, choice.clone(), &source);
    let found = (0..rounds.max(1)).map(run).collect::<Result<Vec<_>, _>>()?;
    let median = |of: fn(&Emitted) -> f64| {
        let mut values: Vec<f64> = found.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let speed = |seconds: f64| found[0].bytes as f64 / 1e9 / seconds;
    let (emit, copy) = (
        median(|one| one.emit.as_secs_f64()),
        median(|one| one.copy.as_secs_f64()),
    );
    println!(
        "{{\"bytes\": {}, \"rounds\": {}, \"emit_gb_per_s\": {:.2}, \"memcpy_gb_per_s\": {:.2}, \"emit_over_memcpy\": {:.3}, \"prepare_over_memcpy\": {:.3}}}",
        found[0].bytes,
        found.len(),
        speed(emit),
        speed(copy),
        median(|one| one.copy.as_secs_f64() / one.emit.as_secs_f64()),
        median(|one| one.copy.as_secs_f64() / one.prepare.as_secs_f64()),
    );
    Ok(())
}

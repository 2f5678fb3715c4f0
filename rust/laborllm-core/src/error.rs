//! Everything a user can cause, one variant each; the variants hold the facts, `Display` holds the sentence.

use thiserror::Error;

/// Which of the contracts an [`Error`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The panel breaks its contract.
    Panel,
    /// A template cannot be read, or does not fit the panel.
    Template,
    /// Token sequences that make no trie.
    Trie,
    /// A token table that cannot be packed as asked.
    Packing,
    /// Codes that cannot be counted.
    Count,
    /// The process cannot do it.
    Process,
}

/// Short name for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What is wrong, where, and the way out; one line each. Rows are input rows, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// Work for threads that a fork left behind.
    #[error(
        "this process was forked from one that had used laborllm's threads, which do not live in it; start worker processes by spawn or forkserver (multiprocessing.get_context(\"spawn\"); torch's DataLoader: multiprocessing_context=\"spawn\")"
    )]
    Forked,
    /// A required column is absent.
    #[error("the panel has no column '{column}'; present are {}; rename one, or map it with columns={{\"{column}\": …}}", names(.present))]
    MissingColumn {
        /// The canonical name.
        column: String,
        /// Names of the columns that came.
        present: Vec<String>,
    },
    /// `columns` maps a name that the data lack.
    #[error("columns maps '{column}' to '{source_name}', which the panel lacks; present are {}", names(.present))]
    MissingSource {
        /// The canonical name.
        column: String,
        /// The name it was mapped to.
        source_name: String,
        /// Names of the columns that came.
        present: Vec<String>,
    },
    /// Two columns would carry one name.
    #[error(
        "the column '{column}' is given twice; drop or rename one of the two before the panel is read, or change columns="
    )]
    RepeatedColumn {
        /// The name that stands twice.
        column: String,
    },
    /// A column has a type that its part in the panel does not allow.
    #[error("the column '{column}' has type {found}; {way_out}")]
    ColumnType {
        /// The canonical name.
        column: String,
        /// The Arrow type that came.
        found: String,
        /// What to convert it to, and how.
        way_out: String,
    },
    /// Arrow refused to concatenate, cast or take a column.
    #[error("the column '{column}' cannot be read: {reason}")]
    Unreadable {
        /// The canonical name.
        column: String,
        /// Arrow's own words.
        reason: String,
    },
    /// No row is left.
    #[error(
        "the panel has no rows ({rows_in} came in, {dropped} were dropped for a null occupation); check the file and its filters"
    )]
    Empty {
        /// Rows that came in.
        rows_in: u64,
        /// Rows dropped on request.
        dropped: u64,
    },
    /// The dataset tag and the dataset column disagree.
    #[error(
        "dataset='{tag}' was given but the column 'dataset' holds '{found}' in row {row} (counted from 0); drop the column or leave the tag out"
    )]
    TwoTags {
        /// The tag that was passed.
        tag: String,
        /// The first value that differs.
        found: String,
        /// Its row.
        row: u64,
    },
    /// A null dataset, worker or year.
    #[error("null {column} in row {row} (counted from 0){}; give it a value or drop the row", after(.worker))]
    NullKey {
        /// `dataset`, `worker_id` or `year`.
        column: String,
        /// Its row.
        row: u64,
        /// The worker, where it is known.
        worker: Option<String>,
    },
    /// A year outside 32 bits.
    #[error(
        "the year {year} of worker {worker} in row {row} (counted from 0) is no calendar year; correct it"
    )]
    YearRange {
        /// The value as given.
        year: String,
        /// The worker.
        worker: String,
        /// Its row.
        row: u64,
    },
    /// A null or empty occupation.
    #[error(
        "null occupation of worker {worker} in {year} (row {row}, counted from 0); fill it, or drop such rows with drop_null_occupations=True"
    )]
    NullOccupation {
        /// The worker.
        worker: String,
        /// The year.
        year: i32,
        /// Its row.
        row: u64,
    },
    /// A state outside the closed list.
    #[error("unknown state '{state}' of worker {worker} in {year} (row {row}, counted from 0); nearest are {}; correct it or add it to the list of occupations", names(.nearest))]
    UnknownState {
        /// The value as given.
        state: String,
        /// The worker.
        worker: String,
        /// The year.
        year: i32,
        /// Its row.
        row: u64,
        /// The three nearest titles (for integers, codes with their titles).
        nearest: Vec<String>,
    },
    /// A string of digits where titles are expected.
    #[error(
        "the state '{state}' of worker {worker} in {year} (row {row}, counted from 0) is text of digits and no title; strings are titles, so cast the column to int64 if it holds codes"
    )]
    DigitState {
        /// The value as given.
        state: String,
        /// The worker.
        worker: String,
        /// The year.
        year: i32,
        /// Its row.
        row: u64,
    },
    /// Two rows for one worker and year.
    #[error("two rows for worker {worker} in {year} (rows {} and {}, counted from 0); a worker has one state per year: drop one of them", .rows[0], .rows[1])]
    RepeatedYear {
        /// The worker.
        worker: String,
        /// The year.
        year: i32,
        /// Both rows, ascending.
        rows: [u64; 2],
    },
    /// A stream whose workers do not ascend.
    #[error(
        "worker {worker} in row {row} (counted from 0) comes after worker {previous}; a stream that is read once must have its datasets and ids in ascending order: sort it, or write it to a file, whose rows may stand in any order"
    )]
    Falls {
        /// The worker that comes too late.
        worker: String,
        /// The worker of the row above.
        previous: String,
        /// The first row of the fall.
        row: u64,
    },
    /// A stream that broke off.
    #[error("the stream of rows broke off after row {rows}: {reason}")]
    Source {
        /// Rows that came before.
        rows: u64,
        /// The words of whoever gave the rows.
        reason: String,
    },
    /// A fixed field that changes.
    #[error("the {column} of worker {worker} changes from '{}' in {} to '{}' in {} (rows {} and {}, counted from 0); it is fixed: correct one of them", .values[0], .years[0], .values[1], .years[1], .rows[0], .rows[1])]
    FixedChanges {
        /// `gender`, `race` or `birth_year`.
        column: String,
        /// The worker.
        worker: String,
        /// Both values, in the order of their years.
        values: [String; 2],
        /// Their years.
        years: [i32; 2],
        /// Their rows.
        rows: [u64; 2],
    },
    /// Rows that are not those of a checked panel.
    #[error(
        "these rows are not those of a checked panel: {reason}; build it with Panel.from_arrow or Panel.read"
    )]
    Unchecked {
        /// What does not hold.
        reason: String,
    },
    /// A window that is no range of rows of one worker.
    #[error(
        "window {window} (rows {first} to {stop}) is no range of rows of one worker; windows are [first, stop) in panel rows"
    )]
    Window {
        /// Position in the list of windows.
        window: usize,
        /// First row.
        first: i64,
        /// One past its last row.
        stop: i64,
    },
    /// Text that is no template.
    #[error("the template's {part} cannot be read at character {at}: {reason}")]
    Syntax {
        /// `header`, `row` or `end`.
        part: &'static str,
        /// Character (not byte) position, counted from 0.
        at: usize,
        /// What is wrong there and what is meant to stand there.
        reason: String,
    },
    /// A bracketed phrase that depends on nothing.
    #[error(
        "the phrase [[{phrase}]] in the template's {part} prints no field and does not begin with the name of one that is printed; write it without brackets"
    )]
    LoosePhrase {
        /// `header`, `row` or `end`.
        part: &'static str,
        /// What stands between the brackets.
        phrase: String,
    },
    /// A row that does not read year, then title.
    #[error("the template's row {reason}")]
    RowForm {
        /// What does not hold and the way out.
        reason: String,
    },
    /// A field where it may not stand.
    #[error("the template prints {{{field}}} in its {part}; {way_out}")]
    Misplaced {
        /// The field.
        field: String,
        /// `header`, `row` or `end`.
        part: &'static str,
        /// Where it belongs.
        way_out: String,
    },
    /// An unbracketed field without a column.
    #[error("the template prints {{{field}}} in its {part} but the panel has no column '{field}'; present are {}; bracket the phrase as [[…]] to make it optional, or add the column", names(.present))]
    FieldWithoutColumn {
        /// The field.
        field: String,
        /// `header`, `row` or `end`.
        part: &'static str,
        /// Names of the columns there are.
        present: Vec<String>,
    },
    /// A field that cannot be dropped.
    #[error("the template has no bracketed phrase with {{{field}}} to leave out; bracketed are {}", names(.bracketed))]
    NotBracketed {
        /// The field.
        field: String,
        /// Fields that stand in brackets.
        bracketed: Vec<String>,
    },
    /// A field without a word for null.
    #[error(
        "the template has no word for a missing {{{field}}}; add {field} = \"…\" under [missing]"
    )]
    NoMissingWord {
        /// The field.
        field: String,
    },
    /// A field of a type whose text is not defined.
    #[error(
        "the template prints {{{field}}} but the column has type {found}; cast it to the text you want printed"
    )]
    FieldType {
        /// The field.
        field: String,
        /// The Arrow type that came.
        found: String,
    },
    /// A value that would break the line it is printed in.
    #[error(
        "the template prints {{{field}}}, of which '{value}' holds a control character or a line break; clean the column first"
    )]
    FieldText {
        /// The field.
        field: String,
        /// The value.
        value: String,
    },
    /// `{dataset}` without a tag.
    #[error(
        "the template prints {{dataset}} but the panel has no dataset tag; pass dataset=/--dataset"
    )]
    NoTag,
    /// An unknown choice for the education shown.
    #[error(
        "education='{found}' is unknown; choose 'target' (that of the row to be predicted) or 'previous'"
    )]
    EducationChoice {
        /// The word that came.
        found: String,
    },
    /// Fragments that could not be encoded.
    #[error("the fragments of the text could not be encoded: {reason}")]
    Encoder {
        /// What happened.
        reason: String,
    },
    /// No title.
    #[error("a trie needs at least one title; the list is empty")]
    NoUnits,
    /// Something else than lists of integers.
    #[error(
        "units are lists of token ids, not {found}; pass an Arrow list of integers or a list of lists"
    )]
    UnitType {
        /// The Arrow type that came.
        found: String,
    },
    /// Offsets that cut no list.
    #[error("the offsets of the units fall or leave the tokens; pass a valid Arrow list array")]
    UnitOffsets,
    /// Titles without tokens.
    #[error("{}; every title needs at least one token", units(.rows, "is empty", "are empty"))]
    EmptyUnits {
        /// Positions in the list of units, ascending.
        rows: Vec<usize>,
    },
    /// Titles of too many tokens.
    #[error("{}; shorten these titles", units(.rows, &format!("has more than {longest} tokens"), &format!("have more than {longest} tokens")))]
    LongUnits {
        /// Positions in the list of units, ascending.
        rows: Vec<usize>,
        /// Tokens that are allowed.
        longest: usize,
    },
    /// A number that is no token.
    #[error(
        "the unit in row {row} holds {token}, which is no token; ids are 0 to 2147483646, without nulls"
    )]
    TokenRange {
        /// Position in the list of units.
        row: usize,
        /// What was found.
        token: String,
    },
    /// Titles with the same tokens.
    #[error("{}; titles must differ after tokenization", pairs(.rows, "equals"))]
    RepeatedUnits {
        /// Neighbours among the equal ones, each pair ascending.
        rows: Vec<[usize; 2]>,
    },
    /// Titles whose tokens begin another's.
    #[error("{}; add the terminator (newline) to every unit", pairs(.rows, "begins"))]
    PrefixUnits {
        /// Row of the shorter unit, row of the longer one.
        rows: Vec<[usize; 2]>,
    },
    /// More tokens than 32-bit nodes can count.
    #[error(
        "the units hold {tokens} tokens; a trie has at most 4294967294 nodes: use fewer or shorter titles"
    )]
    TrieSize {
        /// Sum of their lengths.
        tokens: usize,
    },
    /// Arrays that are no trie.
    #[error("these arrays are no trie: {reason}; build it anew")]
    BrokenTrie {
        /// What contradicts it.
        reason: String,
    },
    /// A state that this trie never gave.
    #[error("row {row} is in state {state}, which this trie does not have; its states are 0 (the root) to {}", .nodes - 1)]
    UnknownNode {
        /// The state.
        state: u32,
        /// Its place in the batch.
        row: usize,
        /// Nodes of the trie.
        nodes: usize,
    },
    /// An edge that this trie never gave.
    #[error("row {row} takes edge {edge}, which this trie does not have; it has {edges}")]
    UnknownEdge {
        /// The edge.
        edge: u32,
        /// Its place in the batch.
        row: usize,
        /// Edges of the trie.
        edges: usize,
    },
    /// An array of another kind than a walk reads.
    #[error("{name} must be a {expected}, not {found}")]
    ArrayKind {
        /// The argument.
        name: String,
        /// What it must be.
        expected: String,
        /// What came.
        found: String,
    },
    /// A batch whose arrays disagree.
    #[error("there are {states} states but {other} {what}; pass one for each state")]
    BatchRows {
        /// States that came.
        states: usize,
        /// What came beside them.
        what: &'static str,
        /// How many.
        other: usize,
    },
    /// A bitmask without room for every token.
    #[error(
        "the bitmask has {width} words a row, the titles need {needed}; allocate ceil(vocabulary / 32)"
    )]
    NarrowBitmask {
        /// Words a row.
        width: usize,
        /// Words that hold every token of the titles.
        needed: usize,
    },
    /// Bitmaps of another trie.
    #[error(
        "a subset of {words} words is not one of this trie, whose subsets have {needed}; make it with restrict()"
    )]
    SubsetWords {
        /// Words of each bitmap.
        words: usize,
        /// Words of this trie's.
        needed: usize,
    },
    /// A subset that does not exist.
    #[error("row {row} asks for subset {subset} of {subsets}")]
    UnknownSubset {
        /// Its place in the batch.
        row: usize,
        /// The subset asked for.
        subset: i64,
        /// Subsets that came.
        subsets: usize,
    },
    /// A set over another number of titles.
    #[error(
        "the set is over {titles} titles, the trie holds {expected}; pass one truth value a title"
    )]
    SubsetTitles {
        /// Truth values that came.
        titles: usize,
        /// Titles of the trie.
        expected: usize,
    },
    /// A column of the token table is absent.
    #[error("the token table has no column '{column}'; present are {}; {way_out}", names(.present))]
    MissingTokenColumn {
        /// Its name.
        column: String,
        /// Names of the columns that came.
        present: Vec<String>,
        /// Where it comes from, or how to do without it.
        way_out: &'static str,
    },
    /// A column of the token table that cannot be read.
    #[error("the column '{column}' of the token table cannot be read: {reason}")]
    TokenColumn {
        /// Its name.
        column: String,
        /// What is wrong and what is meant to stand there.
        reason: String,
    },
    /// A career that no bin can hold.
    #[error(
        "the career of {who} has {tokens} tokens and careers are never split, so bins of {length} cannot hold it; pack with a length of {tokens} or more, or render such careers in windows before they are encoded"
    )]
    LongCareer {
        /// The worker and the dataset.
        who: String,
        /// Its tokens.
        tokens: usize,
        /// Tokens of a bin.
        length: usize,
    },
    /// A career without tokens.
    #[error("the career of {who} has no tokens; leave such rows out of the token table")]
    EmptyCareer {
        /// The worker and the dataset.
        who: String,
    },
    /// A title span that is no range of the career's tokens.
    #[error(
        "the career of {who} has {tokens} tokens and a title span from {start} to {stop}; spans are [start, stop) in tokens of their career: encode it anew, or pack with labels=\"all\""
    )]
    TitleSpan {
        /// The worker and the dataset.
        who: String,
        /// Its tokens.
        tokens: usize,
        /// First token of the span.
        start: i32,
        /// One past its last token.
        stop: i32,
    },
    /// A number outside its range.
    #[error("{name} is {found}; it must be from {least} to {most}")]
    PackingNumber {
        /// Name of the argument.
        name: &'static str,
        /// The value that came.
        found: i64,
        /// The least that is allowed.
        least: i64,
        /// The most that is allowed.
        most: i64,
    },
    /// An unknown choice for the labels.
    #[error(
        "labels='{found}' is unknown; choose 'all' tokens, 'titles' (tokens of titles and their newlines only), or None for no labels"
    )]
    LabelsChoice {
        /// The word that came.
        found: String,
    },
    /// Columns to count that disagree.
    #[error(
        "there are {outcomes} outcomes but {other} codes, marks or weights beside them; pass one for each row"
    )]
    CountRows {
        /// Rows of the outcomes.
        outcomes: usize,
        /// Rows of another column.
        other: usize,
    },
    /// More combinations of codes than int64 numbers.
    #[error("columns of {} codes make more combinations than int64 numbers; condition on less", product(.sizes))]
    CountCells {
        /// Codes of each column.
        sizes: Vec<u64>,
    },
    /// A code that its column cannot hold.
    #[error("row {row} holds the code {code} in column {place}, whose codes are {least} to {}; code the column anew", i128::from(*.size) - 1)]
    CodeRange {
        /// Its row.
        row: usize,
        /// Its column; outcomes are the last.
        place: usize,
        /// What was found.
        code: i64,
        /// The least code.
        least: i64,
        /// The greatest code plus one.
        size: u64,
    },
}

impl Error {
    /// The words in one line, whatever the values hold that they quote.
    pub fn sentence(&self) -> String {
        let mut line = String::new();
        for letter in self.to_string().chars() {
            match letter {
                letter if breaks_line(letter) => line.extend(letter.escape_default()),
                letter => line.push(letter),
            }
        }
        line
    }

    /// Which contract this is about, and so which Python exception it becomes.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Forked => Kind::Process,
            Self::Syntax { .. }
            | Self::LoosePhrase { .. }
            | Self::RowForm { .. }
            | Self::Misplaced { .. }
            | Self::FieldWithoutColumn { .. }
            | Self::NotBracketed { .. }
            | Self::NoMissingWord { .. }
            | Self::FieldType { .. }
            | Self::FieldText { .. }
            | Self::NoTag
            | Self::EducationChoice { .. } => Kind::Template,
            Self::NoUnits
            | Self::UnitOffsets
            | Self::UnitType { .. }
            | Self::EmptyUnits { .. }
            | Self::LongUnits { .. }
            | Self::TokenRange { .. }
            | Self::RepeatedUnits { .. }
            | Self::PrefixUnits { .. }
            | Self::TrieSize { .. }
            | Self::BrokenTrie { .. }
            | Self::UnknownNode { .. }
            | Self::UnknownEdge { .. }
            | Self::ArrayKind { .. }
            | Self::BatchRows { .. }
            | Self::NarrowBitmask { .. }
            | Self::SubsetWords { .. }
            | Self::UnknownSubset { .. }
            | Self::SubsetTitles { .. } => Kind::Trie,
            Self::MissingTokenColumn { .. }
            | Self::TokenColumn { .. }
            | Self::LongCareer { .. }
            | Self::EmptyCareer { .. }
            | Self::TitleSpan { .. }
            | Self::PackingNumber { .. }
            | Self::LabelsChoice { .. } => Kind::Packing,
            Self::CountRows { .. } | Self::CountCells { .. } | Self::CodeRange { .. } => {
                Kind::Count
            }
            _ => Kind::Panel,
        }
    }

    /// The same where its rows are counted from a row further up.
    pub(crate) fn shifted(mut self, by: u64) -> Self {
        match &mut self {
            Self::TwoTags { row, .. }
            | Self::NullKey { row, .. }
            | Self::YearRange { row, .. }
            | Self::NullOccupation { row, .. }
            | Self::UnknownState { row, .. }
            | Self::DigitState { row, .. }
            | Self::Falls { row, .. } => *row += by,
            Self::RepeatedYear { rows, .. } | Self::FixedChanges { rows, .. } => {
                rows.iter_mut().for_each(|row| *row += by);
            }
            _ => {}
        }
        self
    }

    /// Arrow's complaint about one column.
    pub(crate) fn unreadable(column: &str, error: &dyn std::fmt::Display) -> Self {
        let reason = error.to_string().replace('\n', " ");
        Self::Unreadable {
            column: column.to_owned(),
            reason,
        }
    }

    /// What is wrong with one column of a token table.
    pub(crate) fn token_column(column: &str, reason: &dyn std::fmt::Display) -> Self {
        let reason = reason.to_string().replace('\n', " ");
        Self::TokenColumn {
            column: column.to_owned(),
            reason,
        }
    }
}

/// A number that must lie in a range of at most 32 bits.
pub(crate) fn within(name: &'static str, found: i64, least: i32, most: i32) -> Result<i32> {
    let (least, most) = (i64::from(least), i64::from(most));
    if (least..=most).contains(&found) {
        return Ok(found as i32);
    }
    Err(Error::PackingNumber {
        name,
        found,
        least,
        most,
    })
}

fn names(list: &[String]) -> String {
    if list.is_empty() {
        return "none".to_owned();
    }
    list.iter()
        .map(|name| format!("'{name}'"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn product(sizes: &[u64]) -> String {
    let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    sizes.join(" x ")
}

/// Rows that a message names, before it counts the rest.
const NAMED: usize = 8;

/// The units in these rows, and what is said of one or of several.
fn units(rows: &[usize], one: &str, many: &str) -> String {
    if let [row] = rows {
        return format!("the unit in row {row} {one}");
    }
    let named: Vec<String> = rows.iter().take(NAMED).map(ToString::to_string).collect();
    let rest = match rows.len() - named.len() {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    format!("the units in rows {}{rest} {many}", named.join(", "))
}

/// Pairs of units and the verb between them.
fn pairs(rows: &[[usize; 2]], verb: &str) -> String {
    let named = rows.iter().take(NAMED);
    let named =
        named.map(|[left, right]| format!("the unit in row {left} {verb} the unit in row {right}"));
    let named: Vec<String> = named.collect();
    let rest = match rows.len() - named.len() {
        0 => String::new(),
        rest => format!(", and {rest} more pairs"),
    };
    format!("{}{rest}", named.join(", "))
}

fn after(worker: &Option<String>) -> String {
    worker
        .as_ref()
        .map_or_else(String::new, |worker| format!(" of worker {worker}"))
}

/// True for control characters and for what ends a line or a paragraph.
pub(crate) fn breaks_line(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}')
}

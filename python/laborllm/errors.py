"""What can go wrong, as raised by the Rust core and the Python layers alike.

Every message is one line that says what is wrong, where (worker, row, column, file) and the way out.
"""

from __future__ import annotations


class LaborLLMError(Exception):
    """Anything that a user of this package can cause and repair."""


class OccupationsError(LaborLLMError):
    """The list of occupations is no closed, ordered set of named states."""


class PanelError(LaborLLMError):
    """A panel breaks its contract: one row per worker and year, in a known state."""


class WorldError(LaborLLMError):
    """A career world whose laws are none, a file that describes none, or a question that its law does not answer."""


class TemplateError(LaborLLMError):
    """A resume template cannot be read, or does not fit the panel."""


class TokenizerError(LaborLLMError):
    """A tokenizer under which the probability of a title is not defined."""


class TrieError(LaborLLMError):
    """Token sequences from which no title trie can be built."""


class PackingError(LaborLLMError):
    """A token table that cannot be packed as asked: a career longer than a bin, a column that is absent or broken."""


class ModelError(LaborLLMError):
    """A base, a checkpoint or a model directory that cannot be used as asked."""


class PredictionsError(LaborLLMError):
    """Predictions that break their contract or cannot be compared."""


class FileError(LaborLLMError):
    """A file that cannot be read, or an output that would be overwritten."""


class MissingDependencyError(LaborLLMError):
    """An optional dependency is not installed; the message names the extra that brings it."""

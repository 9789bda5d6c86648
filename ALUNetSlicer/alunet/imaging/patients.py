"""Which cases are of one patient: as a data set or a person says it, or as their names suggest
it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from alunet.errors import InputError

NONE = "none"
"""Said instead of a pattern: every case is another patient."""

Patients = dict[str, str]
"""Case name -> patient."""

_HOW = (
    'Give a table {"patient": ["case", …], …}, a regular expression that captures the patient, '
    'or "none".'
)


class PatientsUnclear(InputError):
    """Nothing says how cases group, and their names look like several cases of one patient.

    Attributes:
        guess: the patients that the names suggest.
    """

    def __init__(self, guess: Guess, pair: tuple[str, str]) -> None:
        pattern = (
            f'"{guess.pattern}"'
            if guess.pattern
            else "PATTERN (a regular expression that captures the patient)"
        )
        super().__init__(
            f"'{pair[0]}' and '{pair[1]}' look like one patient ({guess.counts}).",
            f"Give --group {pattern} to keep a patient's cases together, or --group none if each "
            f"case is another one.",
        )
        self.guess = guess


@dataclass(frozen=True)
class Guess:
    """What case names suggest.

    Attributes:
        groups: patient -> its cases, by name; also patients of one case.
        pattern: a regular expression that finds the same groups, None where no simple one does.
    """

    groups: dict[str, list[str]]
    pattern: str | None

    @property
    def counts(self) -> str:
        """How many cases and patients, in words."""
        return (
            f"{sum(len(cases) for cases in self.groups.values())} cases, {len(self.groups)} "
            f"patients"
        )


def group_cases(names: Sequence[str], said: object, where: str) -> Patients:
    """Return the patient of each case.

    Args:
        names: of the cases.
        said: a table {patient: [case, …]} of all cases; a regular expression whose first group, or
            else whole match, is the patient; or "none".
        where: what says it, for messages.

    Raises:
        InputError: it is none of these, or does not fit the cases.
    """
    if isinstance(said, Mapping):
        return _by_table(names, said, where)
    if not isinstance(said, str):
        raise InputError(f"{where} cannot be {said!r:.60}.", _HOW)
    if said.strip().casefold() == NONE:
        return {name: name for name in names}
    return _by_pattern(names, said, where)


def by_patient(patients: Patients) -> dict[str, list[str]]:
    """Return the cases of each patient, both sorted by name."""
    groups: dict[str, list[str]] = {patient: [] for patient in sorted(set(patients.values()))}
    for case in sorted(patients):
        groups[patients[case]].append(case)
    return groups


def _by_table(names: Sequence[str], table: Mapping[object, object], where: str) -> Patients:
    patients: Patients = {}
    for patient, cases in table.items():
        if not isinstance(cases, (list, tuple)) or not str(patient).strip():
            raise InputError(f"{where}: {patient!r} has the cases {cases!r:.60}.", _HOW)
        for case in cases:
            if not isinstance(case, str):
                raise InputError(f"{where}: '{patient}' has the case {case!r:.60}.", _HOW)
            if case in patients:
                raise InputError(f"{where} names the case '{case}' twice.", "Name each case once.")
            patients[case] = str(patient)
    for what, odd in (
        ("names the case '{}', which is not there", sorted(set(patients) - set(names))),
        ("does not name the case '{}'", sorted(set(names) - set(patients))),
    ):
        if odd:
            raise InputError(
                f"{where} {what.format(odd[0])}.", "Name all cases of the data set, and no others."
            )
    return {name: patients[name] for name in names}


def _by_pattern(names: Iterable[str], pattern: str, where: str) -> Patients:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what later versions of Python may read otherwise
            compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{where} {_shown(pattern)} is no regular expression ({reason}).", "Correct it."
        ) from error
    spelled: dict[str, str] = {}
    patients: Patients = {}
    for name in names:
        found = compiled.search(name)
        patient = found and found.group(1 if compiled.groups else 0)
        if not patient:
            hint = r'It must find the patient in every case name, for instance "(patient\d+)".'
            raise InputError(
                f"{where} {_shown(pattern)} finds no patient in the case name '{name}'.", hint
            )
        patients[name] = spelled.setdefault(patient.casefold(), patient)
    return patients


def _shown(pattern: str) -> str:
    return repr(pattern).replace("\\\\", "\\")  # as a person types it, on one line


# --- what names suggest ---------------------------------------------------------------------------

_WORD = re.compile(
    r"(left|right|[lr]|[lr][th]|p?ed|p?es|diastole|systole|pre|post|baseline|bl|follow-?up|fu|before|after"
    r"|frame|fr|phase|time|time-?point|tp|t|visit|v|ses|session|scan|run|rep|repeat|exam|series|acq|day|week|month|year"
    r"|slice|sl|echo|t1|t2|t1w|t1c|t1ce|t2w|t2star|flair|dwi|adc|pd|pet|ct|cbct|mri?|cine|lge"
    r"|axial|coronal|sagittal|ax|cor|sag|reader|rater|copy)\d*",
    re.IGNORECASE,
)
"""Words that tell apart the cases of a patient rather than patients, perhaps numbered."""

_DATE = re.compile(r"(19|20)\d{6}")
_GLUED = re.compile(r"(.*\d)([A-Za-z]+)(\d*)")
_SEPARATORS = r"_\-. "


def guess_patients(names: Sequence[str]) -> Guess | None:
    """Return the patients that the names suggest, or None where every name looks like another
    patient.

    A name is read as fields ("patient001", "frame01"). Several names that begin with the same
    fields look like one patient if others begin otherwise: many small groups do, or groups whose
    cases differ in the same way in each. Names that one number tells apart ("hippocampus_001") do
    not. Words like "left" or "ED" may also come first.
    """
    fields = {name: _fields(name) for name in sorted(names)}
    moved = {name: sorted(parts, key=_tells_cases_apart) for name, parts in fields.items()}
    found = [(parts, level) for parts in (fields, moved) if (level := _level(parts)) is not None]
    if not found:
        return None
    fields, level = next(
        ((parts, level) for parts, level in found if _are_small(parts, level)), found[0]
    )
    spelled: dict[tuple[str, ...], str] = {}
    patients = {
        name: spelled.setdefault(_key(parts, level), _stem(name, parts[:level]))
        for name, parts in fields.items()
    }
    return Guess(by_patient(patients), _pattern(patients))


def same_patients(
    first: Sequence[str], second: Sequence[str]
) -> tuple[Guess, tuple[str, str]] | None:
    """Return the guess and a pair of names of a patient who seems to have cases in both lists;
    None without one.
    """
    guess, others = guess_patients([*first, *second]), set(second)
    for cases in guess.groups.values() if guess else ():
        here, there = (
            [case for case in cases if case not in others],
            [case for case in cases if case in others],
        )
        if guess and here and there:
            return guess, (here[0], there[0])
    return None


def _fields(name: str) -> list[str]:
    """Split a name into fields: at signs, and "001a", "01L" or "P01T2" before the last letters."""
    fields = []
    for part in re.split(f"[{_SEPARATORS}]+", name):
        glued = _GLUED.fullmatch(part)
        if glued and (_WORD.fullmatch(glued[2]) or (len(glued[2]) == 1 and not glued[3])):
            fields += [glued[1], glued[2] + glued[3]]
        elif part:
            fields.append(part)
    return fields


def _tells_cases_apart(field: str) -> bool:
    return bool(_WORD.fullmatch(field) or _DATE.fullmatch(field))


def _key(fields: Sequence[str], level: int) -> tuple[str, ...]:
    return tuple(field.casefold() for field in fields[:level])


def _level(fields: Mapping[str, Sequence[str]]) -> int | None:
    """Return the smallest number of leading fields that look like a patient's name: larger
    groups are safer.
    """
    depth = max((len(parts) for parts in fields.values()), default=0)
    return next((level for level in range(1, depth) if _look_like_patients(fields, level)), None)


def _look_like_patients(fields: Mapping[str, Sequence[str]], level: int) -> bool:
    groups = {_key(parts, level) for parts in fields.values()}
    if not 1 < len(groups) < len(fields) or all(_DATE.fullmatch(key[-1]) for key in groups):
        return False
    if _are_small(fields, level):
        return True
    rests = {tuple(field.casefold() for field in parts[level:]) for parts in fields.values()}
    alike = 2 * len(rests) <= len(fields)
    numbered = all(any(sign.isdigit() for sign in key[-1]) for key in groups)
    return alike and (numbered or all(rest and _tells_cases_apart(rest[0]) for rest in rests))


def _are_small(fields: Mapping[str, Sequence[str]], level: int) -> bool:
    """Tell whether there are at least as many groups as cases in a group."""
    return len({_key(parts, level) for parts in fields.values()}) ** 2 >= len(fields)


def _stem(name: str, fields: Sequence[str]) -> str:
    """Return the part of a name that the fields make up, or the fields joined where others are
    between them.
    """
    between = f"[{_SEPARATORS}]*"
    found = re.search(between.join(map(re.escape, fields)), name)
    return found[0] if found else "_".join(fields)


def _pattern(patients: Patients) -> str | None:
    """Return a simple regular expression that finds these patients, or None."""
    groups = list(by_patient(patients).values())
    for pattern in _candidates(set(patients.values())):
        try:
            found = by_patient(_by_pattern(patients, pattern, ""))
        except InputError:
            continue
        if sorted(found.values()) == sorted(groups):
            return pattern
    return None


def _candidates(stems: set[str]) -> Iterable[str]:
    escaped = {re.sub(r"([.+()\[\]])", r"\\\1", stem) for stem in stems}
    numbers = {re.sub(r"\d+", r"\\d+", stem) for stem in escaped}
    words = {re.sub(r"(?<!\\)[A-Za-z]+", "[A-Za-z]+", stem) for stem in numbers}
    for shapes in (numbers, words):
        if len(shapes) == 1:
            shape = min(shapes)
            yield from (f"({shape})", f"^({shape})", f"({shape})$")
    for count in {len(re.split(f"[{_SEPARATORS}]", stem)) for stem in stems}:
        more = f"(?:[{_SEPARATORS}][^{_SEPARATORS}]+){{{count - 1}}}" if count > 1 else ""
        yield f"^([^{_SEPARATORS}]+{more})"
    yield from (r"^(.*?\d+)[A-Za-z]?$", r"^(.*\d)(?:[A-Za-z]+\d*)?$", r"^(.*\d)[A-Za-z]+\d*$")

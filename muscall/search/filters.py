# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""A person's filter as a condition on the table of an index."""

import unicodedata

import pyarrow as pa
import sqlglot

from muscall.search.store import COLUMNS, FILTER_COLUMNS, LISTING, check_text


# With a text, in a filter. NOT LIKE and NOT IN are negations of these.
COMPARISONS = sqlglot.exp.EQ, sqlglot.exp.NEQ, sqlglot.exp.Like, sqlglot.exp.ILike, sqlglot.exp.In
# Queries, functions of unknown names, and what LanceDB crashes at: ?, $1, N'text', b'1'.
NOT_IN_FILTERS = (
    *(sqlglot.exp.Query, sqlglot.exp.Anonymous),
    *(sqlglot.exp.Placeholder, sqlglot.exp.Parameter, sqlglot.exp.National, sqlglot.exp.BitString),
)


def parse_filter(text: str | list[str]) -> str:
    """
    Return a person's filter as a condition on the table: SQL over `FILTER_COLUMNS`, in which text is compared without
    regard to case, and in all its Unicode forms (NFC, NFD): names of files come in each. Of a list, each has to hold.

    Raises:
        `ValueError`: if it is no condition, or names other columns.
    """
    if not isinstance(text, str):
        return " AND ".join(f"({parse_filter(part)})" for part in text)
    check_text(text, "filter")
    try:
        condition = sqlglot.parse_one(text, read="postgres", into=sqlglot.exp.Condition)
    except (sqlglot.errors.SqlglotError, RecursionError) as error:  # the last for hundreds of parentheses
        raise ValueError(f"the filter {text!r} is not understood. {LISTING}") from error
    text_columns = []
    for node in condition.walk():
        if isinstance(node, NOT_IN_FILTERS):
            raise ValueError(f"the filter {text!r} is not a comparison of columns with values. {LISTING}")
        if isinstance(node, sqlglot.exp.Column):
            if node.name not in FILTER_COLUMNS or node.table:
                raise ValueError(f"the filter {text!r} names an unknown column, {node.sql()}. {LISTING}")
            if COLUMNS[node.name] == pa.string() and not isinstance(node.parent, (sqlglot.exp.Is, sqlglot.exp.Lower)):
                text_columns.append(node)
    for column in text_columns:
        column.replace(sqlglot.exp.Lower(this=column.copy()))
    if not isinstance(condition, (sqlglot.exp.Predicate, sqlglot.exp.Connector, sqlglot.exp.Not, sqlglot.exp.Paren)):
        raise ValueError(f"the filter {text!r} is not a comparison of columns with values. {LISTING}")
    return condition.transform(_in_all_forms).sql(dialect="postgres", comments=False)


def _in_all_forms(node: sqlglot.exp.Expression) -> sqlglot.exp.Expression:
    """
    Return a part of a condition with its texts in small letters. A comparison with a text that has several Unicode
    forms becomes one with each of them.
    """
    if isinstance(node, sqlglot.exp.Literal) and node.is_string:
        return sqlglot.exp.Literal.string(node.this.lower())
    if not isinstance(node, COMPARISONS):
        return node
    alternatives = {}
    for form in ("NFC", "NFD", None):
        alternative = node.copy()
        for text in alternative.find_all(sqlglot.exp.Literal):
            if text.is_string:
                text.set("this", (text.this if form is None else unicodedata.normalize(form, text.this)).lower())
        alternatives.setdefault(alternative.sql(), alternative)
    if len(alternatives) == 1:
        return alternative
    join = sqlglot.exp.and_ if isinstance(node, sqlglot.exp.NEQ) else sqlglot.exp.or_
    return sqlglot.exp.paren(join(*alternatives.values()))

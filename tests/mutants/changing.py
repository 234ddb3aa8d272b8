"""The changes that are made to a module: cosmic-ray's operators, and one that leaves a statement out."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.exception_replacer import ExceptionReplacer
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

_COMPARISONS = ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Is_IsNot", "IsNot_Is")
_NAMES = (
    "AddNot",
    "NumberReplacer",
    "ReplaceAndWithOr",
    "ReplaceBinaryOperator_Add_Sub",
    "ReplaceBinaryOperator_Sub_Add",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceUnaryOperator_Delete_Not",
    *(f"ReplaceComparisonOperator_{name}" for name in _COMPARISONS),
)


class OtherException(ExceptionReplacer):
    """Names another exception; one that stands in a module, as `struct.error`, is left as it is."""

    @staticmethod
    def _name_nodes(node: Any) -> tuple[Any, ...]:
        if len(node.children) == 1:
            return ()
        named = node.children[1]
        if named.type == "atom":
            named = named.children[1]
        several = named.children[::2] if named.type == "testlist_comp" else (named,)
        return tuple(name for name in several if name.type == "name")


class DeleteStatement(Operator):
    """Leaves out a statement that does something: a call, a raise, an assignment to an attribute or an item."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type == "simple_stmt" and _does_something(node.children[0]):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        (passing, *_) = parso.parse("pass\n").children
        passing.get_first_leaf().prefix = node.get_first_leaf().prefix
        return passing

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


def _does_something(statement: Any) -> bool:
    code = statement.get_code(include_prefix=False)
    if code.startswith(("log.", "say(", "...")):  # what is only said
        return False
    if statement.type == "expr_stmt":
        return bool("." in statement.children[0].get_code() or "[" in statement.children[0].get_code())
    return statement.type in {"atom_expr", "power", "raise_stmt", "yield_expr"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module."""

    module: str
    source: str
    changed: str

    @property
    def name(self) -> str:
        """Where and what it is, in one line."""
        before, after = self.source.splitlines(), self.changed.splitlines()
        lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
        removed = " ".join(line[1:].strip() for line in lines if line.startswith("-"))
        added = " ".join(line[1:].strip() for line in lines if line.startswith("+"))
        return f"{self.module}:{self.line}  {removed}  ->  {added}"

    @property
    def line(self) -> int:
        """The number of the first line that is changed."""
        before, after = self.source.splitlines(), self.changed.splitlines()
        return next((i for i, (a, b) in enumerate(zip(before, after, strict=False), 1) if a != b), len(after))

    @property
    def function(self) -> range:
        """The lines of the innermost function that is changed; none where it is not in a function."""
        spans = [
            range(node.body[0].lineno, (node.end_lineno or 0) + 1)
            for node in ast.walk(ast.parse(self.source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and self.line in range(node.lineno, (node.end_lineno or 0) + 1)
        ]
        return min(spans, key=len, default=range(0))


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operator can change a module."""

    operator: Operator
    occurrence: int

    def mutant(self, module: str, source: str) -> Mutant | None:
        """Return the module with this change, if it compiles."""
        mutant = Mutant(module, source, mutate_code(source, self.operator, self.occurrence) or source)
        good = mutant.changed != source and _compiles(mutant.changed) and "@dataclass(" not in mutant.name
        return mutant if good else None


def places_of(source: str) -> list[Place]:
    """Return every place at which a module can be changed."""
    nodes = list(ast_nodes(get_ast(source)))
    operators = [*(get_operator(f"core/{name}")() for name in _NAMES), OtherException(), DeleteStatement()]
    return [
        Place(operator, occurrence)
        for operator in operators
        for occurrence in range(sum(len(list(operator.mutation_positions(node))) for node in nodes))
    ]


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True

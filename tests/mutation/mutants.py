"""Mutants: every small fault that can be planted in a module.

A fault is one changed place in the syntax tree: a comparison turned or moved by one, an operator or a Boolean exchanged, a condition
negated, a number one off, a statement left out. Nothing is planted where a fault has no meaning: annotations, docstrings, messages of
errors, sizes of caches, log lines.
"""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_PASSED_OVER = ("logger", "lru_cache", "cast", "TypeVar")


@dataclass(frozen=True)
class Mutant:
    """One fault: the number of its place in the tree, and what was changed there."""

    place: int
    line: int
    what: str


def mutants_of(source: str) -> list[Mutant]:
    """Return every fault that can be planted in *source*, in the order of its places."""
    return [Mutant(place, node.lineno, what) for place, node, what, _ in _changes(ast.parse(source))]


def plant(source: str, mutant: Mutant) -> ast.Module:
    """Return the syntax tree of *source* with the fault in it."""
    tree = ast.parse(source)
    for place, _, what, change in _changes(tree):
        if (place, what) == (mutant.place, mutant.what):
            change()
            return ast.fix_missing_locations(tree)
    raise LookupError(f"no place for {mutant}")


@dataclass
class _Change:
    """A change of one attribute of a node, to be carried out when it is called."""

    node: ast.AST
    attribute: str
    value: object

    def __call__(self) -> None:
        setattr(self.node, self.attribute, self.value)


@dataclass
class _Replacement:
    """A statement of a block, to be replaced by nothing."""

    block: list[ast.stmt]
    index: int

    def __call__(self) -> None:
        self.block[self.index] = ast.Pass()


def _changes(tree: ast.Module) -> Iterator[tuple[int, ast.expr | ast.stmt, str, _Change | _Replacement]]:
    for place, node in enumerate(_places(tree)):
        for what, change in _changes_at(node):
            yield place, node, what, change


def _places(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Yield the expressions and statements in which a fault has a meaning, outer ones first."""
    if isinstance(node, ast.expr | ast.stmt):
        yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_params", "decorator_list", "bases", "keywords") and not isinstance(node, ast.Call):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_passed_over(child):
                yield from _places(child)


def _is_passed_over(node: ast.AST) -> bool:
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    call = node.value if isinstance(node, ast.Expr) else node
    return isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[0] in _PASSED_OVER


def _changes_at(node: ast.expr | ast.stmt) -> Iterator[tuple[str, _Change | _Replacement]]:
    match node:
        case ast.Compare(ops=[first, *others]) if type(first) in _COMPARISONS:
            other = _COMPARISONS[type(first)]
            yield f"{_name(first)} to {other.__name__}", _Change(node, "ops", [other(), *others])
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator) if type(operator) in _OPERATORS:
            other_operator = _OPERATORS[type(operator)]
            yield f"{_name(operator)} to {other_operator.__name__}", _Change(node, "op", other_operator())
        case ast.BoolOp(op=ast.And()):
            yield "And to Or", _Change(node, "op", ast.Or())
        case ast.BoolOp(op=ast.Or()):
            yield "Or to And", _Change(node, "op", ast.And())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "not left out", _Change(node, "operand", ast.UnaryOp(ast.Not(), copy.deepcopy(operand)))
        case ast.Constant(value=bool(value)):
            yield f"{value} to {not value}", _Change(node, "value", not value)
        case ast.Constant(value=int(number)):
            yield f"{number} to {number + 1}", _Change(node, "value", number + 1)
        case ast.Call(func=ast.Name(id=called)) if called in _CALLS:
            yield f"{called} to {_CALLS[called]}", _Change(node, "func", ast.Name(_CALLS[called], ast.Load()))
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) if not isinstance(test, ast.Compare | ast.UnaryOp):
            yield "condition negated", _Change(node, "test", ast.UnaryOp(ast.Not(), copy.deepcopy(test)))
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "None returned", _Change(node, "value", ast.Constant(None))
        case ast.Break():
            pass
    yield from _statements_left_out(node)


def _statements_left_out(node: ast.expr | ast.stmt) -> Iterator[tuple[str, _Replacement]]:
    if isinstance(node, ast.ClassDef):
        return
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        for index, statement in enumerate(block if isinstance(block, list) else ()):
            if isinstance(statement, ast.Expr | ast.AugAssign | ast.Delete) and not _is_passed_over(statement):
                yield f"line {statement.lineno} left out", _Replacement(block, index)


def _name(operator: ast.AST) -> str:
    return type(operator).__name__

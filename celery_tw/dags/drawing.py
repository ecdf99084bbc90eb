"""Drawing: a graph as text that other programs draw, and as a list for a terminal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

COLOURS = {
    "running": "#9ecbff",
    "queued": "#d7e8fb",
    "ready": "#d7e8fb",
    "succeeded": "#b7e4c0",
    "failed": "#f5b5b0",
    "blocked": "#f8d9a0",
    "skipped": "#e3e3e3",
    "cancelled": "#cfcfcf",
    "pending": "#ffffff",
}
SIGNS = {
    "running": "▶",
    "queued": "…",
    "ready": "‖",
    "succeeded": "✔",
    "failed": "✘",
    "blocked": "■",
    "skipped": "↷",
    "cancelled": "×",
    "pending": "·",
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A node as it is drawn; *state* is '' where there is no run."""

    key: str
    after: tuple[str, ...]
    state: str = ""


def mermaid(nodes: Sequence[Drawn]) -> str:
    """Return the graph as Mermaid draws it, in Markdown for example, each node coloured by its state."""
    names = {node.key: f"n{number}" for number, node in enumerate(nodes)}
    lines = ["flowchart LR"]
    lines += [f'    {names[node.key]}["{_mermaid_text(node.key)}"]' + (f":::{node.state}" if node.state else "") for node in nodes]
    lines += [f"    {names[parent]} --> {names[node.key]}" for node in nodes for parent in node.after]
    states = sorted({node.state for node in nodes if node.state})
    lines += [f"    classDef {state} fill:{COLOURS[state]},stroke:#555,color:#111" for state in states]
    return "\n".join(lines)


def dot(nodes: Sequence[Drawn], *, name: str) -> str:
    """Return the graph as Graphviz draws it."""
    lines = [f"digraph {_dot_text(name)} {{", "    rankdir=LR; node [shape=box, style=filled, fillcolor=white];"]
    lines += [f"    {_dot_text(node.key)}{_dot_colour(node.state)};" for node in nodes]
    lines += [f"    {_dot_text(parent)} -> {_dot_text(node.key)};" for node in nodes for parent in node.after]
    return "\n".join([*lines, "}"])


def tree(nodes: Iterable[Drawn]) -> list[str]:
    """Return one line a node, parents first, indented by how far it is from where the graph begins."""
    depths: dict[str, int] = {}
    lines = []
    for node in nodes:
        depths[node.key] = 1 + max((depths[parent] for parent in node.after), default=-1)
        sign = SIGNS.get(node.state, "·")
        waits = f"  ← {', '.join(node.after)}" if node.after else ""
        lines.append(f"{'  ' * depths[node.key]}{sign} {node.key}  {node.state}{waits}")
    return lines


def _mermaid_text(text: str) -> str:
    return "".join(sign if sign.isalnum() or sign in " .,:;-_/()" else f"#{ord(sign)};" for sign in text)


def _dot_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _dot_colour(state: str) -> str:
    return f' [fillcolor="{COLOURS[state]}", tooltip="{state}"]' if state else ""

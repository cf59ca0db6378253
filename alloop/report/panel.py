"""What a panel of the page is, and how it becomes HTML.

A panel is a title, a function that reads what it shows, and a template. The function returns one set of
values for each section, and nothing where there is nothing to show. Title and template are jinja2 text.
Every value is escaped, except drawings, which matplotlib has escaped.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup, escape

from alloop.report.curve import draw
from alloop.report.downloads import csv_link, svg_link, with_file_names
from alloop.report.numbers import UNKNOWN, counted
from alloop.report.style import svg
from alloop.results.class_balance import ClassBalance, class_balance
from alloop.results.compare import Comparison
from alloop.results.names import metric_title
from alloop.results.runs import Run

if TYPE_CHECKING:
    from jinja2 import Environment


def capital(text: str) -> str:
    """Return a text with a capital first letter, as a heading begins."""
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class PageData:
    """What the panels read.

    Attributes:
        comparison: the runs and their comparison.
        other: the same runs compared by images where the page is about boxes, else by boxes.
        strategies: the built-in strategies by name, as import paths; their defaults are read from there.
    """

    comparison: Comparison
    other: Comparison
    strategies: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> list[Run]:
        """The runs that have finished a round."""
        return [run for run in self.comparison.runs if run.rounds]

    @property
    def first_runs(self) -> list[Run]:
        """The first run of each strategy, among those that have finished a round."""
        return list({run.strategy: run for run in reversed(self.runs)}.values())[::-1]

    @cached_property
    def balance(self) -> ClassBalance | None:
        """What was bought of each class; None where the runs did not record their classes."""
        return class_balance(self.comparison)

    @cached_property
    def curve(self) -> Any:
        """The drawing of the metric of the verdicts, for the page and for the file beside it."""
        return draw(self.comparison, self.comparison.metric)

    @property
    def unit(self) -> str:
        """The unit of the cost in words."""
        return counted(self.comparison.cost)

    @property
    def paid_for(self) -> str:
        """What is paid for, in the plural: boxes, or labels of classification."""
        return self.comparison.runs[0].unit if self.comparison.runs else "boxes"

    @property
    def figure(self) -> str:
        """What is measured, at the beginning of a heading: AP, or accuracy."""
        return capital(metric_title(self.comparison.runs[0].measured[0])) if self.comparison.runs else "AP"

    @property
    def other_unit(self) -> str:
        """The unit of the other way of counting."""
        return counted(self.other.cost)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading of the page with what stands below it, both as HTML."""

    title: Markup
    body: Markup
    width: str = "full"

    @property
    def anchor(self) -> str:
        """The letters and digits of the heading, as a name for links."""
        return "-".join(re.findall("[a-z0-9]+", self.title.unescape().lower())) or "section"


def anchored(sections: Iterable[Section]) -> dict[str, Section]:
    """Return sections by the names of their anchors; a name that occurs again gets a number."""
    named: dict[str, Section] = {}
    for section in sections:
        candidates = (section.anchor, *(f"{section.anchor}-{number}" for number in range(2, len(named) + 3)))
        name = next(name for name in candidates if name not in named)
        named[name] = replace(section, body=with_file_names(section.body, name))
    return named


@dataclass(frozen=True, slots=True)
class Panel:
    """One kind of section of the page.

    Attributes:
        title: jinja2 template of the heading.
        sections: reads the values of each section; an empty iterable leaves the panel out.
        template: jinja2 template of what stands below the heading.
        width: `half` where two sections fit beside each other on a wide screen, else `full`; a section's values may
            have another one.
    """

    title: str
    sections: Callable[[PageData], Iterable[Mapping[str, Any]]]
    template: str
    width: Literal["full", "half"] = "full"

    def render(self, data: PageData, environment: "Environment") -> list[Section]:
        """Return the HTML of each section."""
        title, body = environment.from_string(self.title), environment.from_string(self.template)
        units = {
            "unit": data.unit,
            "other_unit": data.other_unit,
            "paid_for": data.paid_for,
            "figure": data.figure,
        }
        sets = [units | dict(values) for values in self.sections(data)]
        return [  # the templates escape their values
            Section(Markup(title.render(v)), Markup(body.render(v)), v.get("width", self.width))  # noqa: S704
            for v in sets
        ]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: its text.
        css: CSS class.
        shade: share of the full background colour, from 0 to 1; None for no background.
    """

    text: str
    css: str = ""
    shade: float | None = None


@dataclass(frozen=True, slots=True)
class HtmlTable:
    """A table of the page.

    Attributes:
        heads: headings.
        rows: cells of each row; a row of one string is the heading of the rows below it.
        striped: whether every second row has a background.
        tooltips: longer text of a heading.
        upright: whether the headings are written upwards, so that many narrow columns fit on a page.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    striped: bool = True
    tooltips: Mapping[str, str] = field(default_factory=dict)
    upright: bool = False

    def __html__(self) -> str:
        """Return the table as HTML; jinja2 and markupsafe call this."""
        heads = Markup().join(self._head(head) for head in self.heads)
        rows = Markup("\n").join(self._row(row) for row in self.rows)
        names = " ".join(["striped"] * self.striped + ["upright"] * self.upright)
        css = Markup(' class="{}"').format(names) if names else Markup()
        head = Markup("<thead><tr>{}</tr></thead>\n").format(heads) if self.heads else Markup()
        table = Markup('<div class="scroll"><table{}>\n{}<tbody>{}</tbody></table></div>').format(css, head, rows)
        return table + csv_link(self.heads, [[cell_text(cell) for cell in row] for row in self.rows])

    def _head(self, head: str) -> Markup:
        title = Markup(' title="{}"').format(self.tooltips[head]) if head in self.tooltips else Markup()
        return Markup("<th{}>{}</th>").format(title, Markup("<span>{}</span>").format(head) if self.upright else head)

    def _row(self, row: Sequence[str | Cell]) -> Markup:
        if len(row) == 1 < len(self.heads):
            return Markup('<tr class="group"><td colspan="{}">{}</td></tr>').format(len(self.heads), row[0])
        return Markup("<tr>{}</tr>").format(Markup().join(map(_cell, row)))


def cell_text(cell: str | Cell) -> str:
    """Return the text of a cell."""
    return cell if isinstance(cell, str) else cell.text


def _cell(cell: str | Cell) -> Markup:
    if isinstance(cell, str):
        return Markup("<td>{}</td>").format(cell)
    css = Markup(' class="{}"').format(cell.css) if cell.css else Markup()
    shade = "" if cell.shade is None else f' style="background: rgba(var(--heat), {0.8 * cell.shade**0.5:.2f})"'
    return Markup("<td{}{}>{}</td>").format(css, Markup(shade), escape(cell.text))  # noqa: S704  a number alone


def drawing(figure: Any, name: str) -> Markup:
    """Return a matplotlib figure as SVG for a template, with a link that saves it."""
    return saved_drawing(Markup(svg(figure, name)))  # noqa: S704  matplotlib escapes its texts


def saved_drawing(drawn: Markup) -> Markup:
    """Return a drawing as SVG with a link that saves it."""
    return drawn + svg_link(drawn)


def number(value: float | None, form: str = ".3f") -> str:
    """Return a number as text, and a dash where it is unknown."""
    return UNKNOWN if value is None else format(value, form)

"""`diffuscope doctor`: one screen about this machine, to paste into a bug report."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from webui.commands.command import EXIT_FAILURE, command
from webui.i18n import Translator
from webui.settings import Settings


def add_doctor(app: typer.Typer, say: Translator) -> None:
    """Add the command; its exit code is 1 when there is something to put right."""

    @command(app, say, "cli.doctor")
    def doctor(
        settings: Settings,
        as_json: bool = typer.Option(False, "--json", help=say.text("cli.json")),
    ) -> int:
        from webui.runtime.examination import examine

        home = str(Path.home())
        findings = tuple(examine(settings))
        problems = sum(finding.problem is not None for finding in findings)
        said = [
            None if told is None else say.error(told).replace(home, "~")
            for told in (finding.problem or finding.note for finding in findings)
        ]
        if as_json:
            lines = [
                {"topic": finding.topic.rpartition(".")[2], "fact": finding.fact, "advice": advice}
                for finding, advice in zip(findings, said, strict=True)
            ]
            typer.echo(json.dumps(lines, ensure_ascii=False, indent=2))
        else:
            for finding, advice in zip(findings, said, strict=True):
                mark = "✗" if finding.problem else "–" if finding.note else "✓"
                typer.echo(f"{mark} {say.text(finding.topic)}: {finding.fact}")
                if advice is not None:
                    typer.echo(f"    {advice}")
            typer.echo(say.text("doctor.problems", count=problems) if problems else say.text("doctor.all_well"))
        return EXIT_FAILURE if problems else 0

"""``paretune verify``: compare a store with its checksums. Needs no torch."""

from __future__ import annotations

from paretune.cli.json_output import to_json_value, write_result
from paretune.cli.options import JsonOptions, StoreFolder, StudyArguments, with_option_groups
from paretune.terminal import echo, sanitise_line


@with_option_groups
def verify(
    study: StudyArguments,
    json: JsonOptions,
    store: StoreFolder = None,
) -> None:
    """Compare every stored result with its checksum.

    Names what changed since it was written.
    """
    from paretune.errors import StoreError
    from paretune.terminal.plural import pluralise
    from paretune.verbs.verify import verify as verify_store

    result = verify_store(study.load(), store=store)
    if json.as_json:
        write_result("verify", to_json_value(result), json.output)
        if result.problems:
            raise SystemExit(StoreError.exit_code)
        return
    if result.problems:
        problems = "\n".join(f"  {sanitise_line(problem)}" for problem in result.problems)
        raise StoreError(
            f"{pluralise(len(result.problems), 'problem')}:\n{problems}\n",
            where=str(result.folder),
            remedy="Restore what is damaged from a copy of the store. Without one, "
            "`paretune run STUDY --retry` makes all of it again.",
        )
    runs = pluralise(result.runs, "ended run")
    echo(f"{sanitise_line(result.folder)}: {runs}, all as written.")

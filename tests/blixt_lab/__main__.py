"""Which labs are up on this machine, and how to take them down: `python -m blixt_lab list`."""

from __future__ import annotations

import click

from blixt_lab import registry


@click.group()
def main() -> None:
    """Labs of network namespaces on this machine."""


@main.command("list")
def list_command() -> None:
    """Show the labs, their owners' state and their namespaces."""
    for entry in registry.entries():
        state = "kept" if entry.kept else "in use" if entry.owner_lives() else "left over"
        click.echo(f"{entry.id}  {state:9}  {' '.join(entry.namespaces())}")


@main.command()
@click.argument("lab_id")
def down(lab_id: str) -> None:
    """Take a lab down: its processes, namespaces and whatever is pinned in its bpffs."""
    try:
        registry.find(lab_id).remove()
    except KeyError:
        raise click.ClickException(f"there is no lab {lab_id}; `list` shows those there are") from None


if __name__ == "__main__":
    main()

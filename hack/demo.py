"""`make demo`: as root in network namespaces, with eBPF; without, on loopback, with the userspace plane."""

from __future__ import annotations

import os

import click


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything up, and say how to look around.")
def main(keep: bool) -> None:
    """Balance traffic with Blixt on this machine, and show what happens."""
    # Each needs what the other doesn't, down to the system that it runs on.
    if os.geteuid() == 0:
        import demo_lab

        demo_lab.show(keep)
    else:
        import demo_loopback

        demo_loopback.show(keep)


if __name__ == "__main__":
    main()

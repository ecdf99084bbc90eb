"""Command line: ``python -m benchmarks NAME [--json]``; the figures go to stdout, and the exit code is 0 even when a target is missed."""

import argparse

from benchmarks import accuracy, brokers, dag, dispatch, dlq, eta, failover, lanes, startup, tasks, wheel

BENCHMARKS = {
    "dispatch": dispatch,
    "accuracy": accuracy,
    "startup": startup,
    "failover": failover,
    "brokers": brokers,
    "eta": eta,
    "wheel": wheel,
    "dag": dag,
    "tasks": tasks,
    "dlq": dlq,
    "lanes": lanes,
}


def main(arguments: list[str] | None = None) -> None:
    """Run one benchmark and print its report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the time wheel beside its peers.")
    commands = parser.add_subparsers(dest="name", required=True)
    for name, module in BENCHMARKS.items():
        command = commands.add_parser(name, help=(module.__doc__ or "").partition("\n")[0])
        command.add_argument("--json", action="store_true", help="print the figures as JSON")
        module.add_arguments(command)
    options = parser.parse_args(arguments)
    report = BENCHMARKS[options.name].run(options)
    print(report.as_json() if options.json else report.as_text())


if __name__ == "__main__":
    main()

"""The ``latentcraft`` command: picks a sub-command, builds its frozen config with hydra, runs it.

``latentcraft COMMAND key=value ...`` composes ``configs/COMMAND.yaml`` (a space in it is an underscore there) with the
overrides; the yaml's ``_target_``
names a frozen dataclass and nothing below this file sees a DictConfig. Heavy imports happen only inside a command.
"""

import sys
from importlib import import_module

COMMANDS: dict[str, tuple[str, str]] = {
    "play": ("latentcraft.agents.play", "play in a window (without a display: write a video of a script)"),
    "rollout": ("latentcraft.agents.rollout", "run a YAML action script in a world and write an mp4"),
    "record": ("latentcraft.agents.record", "record episodes from a world or any Gymnasium environment"),
    "train": ("latentcraft.model.train.run", "train autoencoder and dynamics on recorded episodes, resumable"),
    "evaluate": (
        "latentcraft.agents.evaluate",
        "hold a dream against the reference world; evaluate compare A.json B.json: two reports",
    ),
    "scaling": ("latentcraft.agents.scaling", "plot what trainings of several sizes came to over what they cost"),
    "agent clone": ("latentcraft.agents.learning.clone", "teach a policy to play like recorded episodes"),
    "agent train": ("latentcraft.agents.learning.train", "train a policy by PPO in the dream or the reference world"),
    "agent evaluate": ("latentcraft.agents.learning.evaluate", "measure what policies are paid in held-out games"),
    "agent proof": ("latentcraft.agents.learning.proof", "is what agents learn in the dream worth anything outside?"),
    "env bench": ("latentcraft.agents.bench_envs", "print environment steps a second by world, observation and batch"),
    "env soak": ("latentcraft.agents.soak", "play very many random steps and check each; look for leaks"),
    "bench": ("latentcraft.agents.bench", "print speed and memory of worlds and training on this machine"),
}


def usage() -> str:
    """Return the help page."""
    lines = [f"  {name:<16}{summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        ["usage: latentcraft COMMAND [key=value ...]", "", "commands:", *lines, "",
         "latentcraft COMMAND --help lists that command's keys with their defaults."]
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 2 bad input, 130 interrupted)."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] in ("-V", "--version"):
        from latentcraft import __version__

        print(__version__)
        return 0
    words = 2 if any(name.startswith(f"{argv[0]} ") for name in COMMANDS) else 1
    command, overrides = " ".join(argv[:words]), argv[words:]
    if command not in COMMANDS:
        if words == 2 and (argv[1:2] == [] or argv[1] in ("-h", "--help")):
            print(usage())
            return 0
        print(f"latentcraft: unknown command {command!r}; known: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    from latentcraft.errors import UserError

    try:
        if command == "evaluate" and overrides[:1] == ["compare"]:
            from latentcraft.simulator.fidelity import compare

            return compare.main(overrides[1:])
        from latentcraft.configs.compose import compose_config, describe_config

        if any(flag in overrides for flag in ("-h", "--help")):
            print(describe_config(command, COMMANDS[command][1]))
            return 0
        config = compose_config(command, overrides)
        return import_module(COMMANDS[command][0]).main(config) or 0
    except UserError as error:
        print(f"latentcraft {command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        # The net under everything that touches files, such as a directory that may not be read.
        name = f"{error.filename}: " if error.filename is not None else ""
        print(f"latentcraft {command}: {name}{error.strerror or ' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"latentcraft {command}: interrupted; what was finished is on disk", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

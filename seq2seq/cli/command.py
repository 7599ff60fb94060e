"""What every command does before its work: help, a composed config, its objects; and errors in plain words after.

`--help` and a mistyped setting are answered without importing torch or Lightning.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from typing import Any, TypeVar

from seq2seq.errors import ConfigProblem, did_you_mean, guard, problem_of, report
from seq2seq.schema import build

Job = TypeVar("Job")
_SWEEP = ("-m", "--multirun")
COMPOSED = "--composed"
"""The only argument of a command that is given its composed config on the standard input: another process of the same job."""


@dataclass(frozen=True)
class Command:
    """One console script: `seq2seq-<name>`, configured by conf/<name>.yaml, or by that of another command."""

    name: str
    summary: str
    examples: tuple[str, ...]
    groups: tuple[str, ...]
    config: str = ""

    @property
    def config_name(self) -> str:
        return self.config or self.name

    def main(self, job: type[Job], work: Callable[[Job, Mapping[str, Any]], Any]) -> None:
        """Build the job from the command line and work on it.

        Args:
            job: the dataclass that the whole config must fit.
            work: called with the job and the composed config as plain data.
        """
        with guard():
            if {"--help", "-h"} & set(sys.argv[1:]):
                print(self.help([argument for argument in sys.argv[1:] if not argument.startswith("-") and "=" not in argument]))
                return
            if sys.argv[1:] == [COMPOSED]:
                config = json.load(sys.stdin)
                work(build(job, config, allow_targets=True), config)
                return
            # Hydra reads no flag between settings.
            sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in _SWEEP)
            self._check_overrides()
            self._run(job, work)

    def _run(self, job: type[Job], work: Callable[[Job, Mapping[str, Any]], Any]) -> None:
        import hydra
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode
        from omegaconf import DictConfig

        from seq2seq.cli.sweep import SweepTable

        failed: list[int] = []

        @hydra.main(version_base="1.3", config_path="pkg://seq2seq.conf", config_name=self.config_name)
        def run(config: DictConfig) -> Any:
            with guard():
                try:
                    return work(*self._composed(job, config))
                except Exception as error:
                    problem = problem_of(error) if HydraConfig.get().mode == RunMode.MULTIRUN else None
                    if problem is None:
                        raise
                    report(problem)  # the other jobs of a sweep are none the worse for it
                    failed.append(problem.exit_code)
                    return math.nan

        run()
        if failed or SweepTable.failed:
            sys.exit(max(failed, default=1))  # of jobs that ran in other processes only that is known

    def _composed(self, job: type[Job], config: Any) -> tuple[Job, Mapping[str, Any]]:
        """The job that a composed config asks for, and that config as plain data."""
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        try:
            plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise ConfigProblem(str(error).split("\n")[0], self._listed) from None
        return build(job, plain, allow_targets=True), plain

    @property
    def script(self) -> str:
        return f"seq2seq-{self.name}"

    @property
    def _listed(self) -> str:
        return f"{self.script} --cfg job prints every setting, {self.script} --help says what they are for"

    def _check_overrides(self) -> None:
        """Compose once before Hydra does, so that what is wrong is said in one line with the nearest right name."""
        typed = arguments = [argument for argument in sys.argv[1:] if argument not in _SWEEP]
        if any(argument.startswith("-") for argument in arguments):
            return  # --cfg and the like: Hydra's own business
        from hydra import compose, initialize_config_module
        from hydra.errors import HydraException, OverrideParseException
        from omegaconf.errors import OmegaConfBaseException

        with initialize_config_module("seq2seq.conf", version_base="1.3"):
            try:
                sweeps = typed != sys.argv[1:]
                for arguments in self._tried(typed) if sweeps else [typed]:
                    compose(self.config_name, overrides=arguments, return_hydra_config=True)
                if sweeps and not self.config:  # who has another command's config does not have its run folder
                    self._check_apart(typed)
            except OverrideParseException as error:
                name, separator, value = error.override.partition("=")
                if not separator:
                    raise ConfigProblem(f"'{name}' is not a setting: write name=value", self._listed) from None
                fix = f"""quote the value, twice because of the shell: '{name}="{value}"'"""
                raise ConfigProblem(
                    f"{error.override} cannot be read: some characters have a meaning of their own", fix
                ) from None
            except (HydraException, OmegaConfBaseException) as error:
                if several := next(
                    (argument for argument in arguments if f"'{argument}'" in str(error) and "," in argument), None
                ):
                    name, _, value = several.partition("=")
                    as_list = "" if name in self.groups else f"; as one list: '{name}=[{value}]'"
                    raise ConfigProblem(
                        f"{several} is several values", f"a sweep over them: {self.script} -m …{as_list}"
                    ) from None
                settings = self._of_choices(arguments, compose)
                for argument in arguments:
                    self._explain(argument, settings)
                raise ConfigProblem(" ".join(str(error).split("\n")[:2]), self._listed) from None

    def _tried(self, sweep: Sequence[str]) -> Iterator[list[str]]:
        """Command lines that between them have every choice of a group that a sweep goes through, and of every other setting its first value."""
        values = [those for _, those in self._swept(sweep, 1)]
        for number in range(max(map(len, values), default=1)):
            yield [each[min(number, len(each) - 1)] for each in values]

    def _swept(self, sweep: Sequence[str], most: int) -> list[tuple[str, list[str]]]:
        """The settings of a sweep by name, each as it would be typed with every choice of a group, or with so many values of another setting; but
        for what a sweeper has to find."""
        from hydra.core.override_parser.overrides_parser import OverridesParser

        overrides = OverridesParser.create().parse_overrides(list(sweep))
        found = [
            (each, _values(each, each.key_or_group if each.key_or_group in self.groups else None, most)) for each in overrides
        ]
        return [(override.get_key_element(), values) for override, values in found if values]

    def _check_apart(self, sweep: Sequence[str]) -> None:
        """Raises ConfigProblem if jobs of a sweep would work in one run folder, of which all but the first would be refused hours later. Of each
        setting it looks at every choice, or the first two values, while the others have their first."""
        from hydra import compose
        from hydra.core.hydra_config import HydraConfig
        from omegaconf.errors import OmegaConfBaseException

        def run_dir(arguments: list[str]) -> str | None:
            """Nothing, where there is none, or where only the sweep itself can tell."""
            config: Any = compose(self.config_name, overrides=arguments, return_hydra_config=True)
            named = str(config._get_node("run_dir")._value()) if "run_dir" in config else "hydra:job"
            if re.search(r"hydra:(job|sweep|runtime\.output_dir)", named):
                return None
            HydraConfig.instance().cfg = config  # which says what was chosen
            try:
                return str(config.run_dir)
            except OmegaConfBaseException:
                return None
            finally:
                HydraConfig.instance().cfg = None

        values = self._swept(sweep, 2)
        first = [those[0] for _, those in values]
        where = run_dir(first)
        if where is None:
            return
        shared = []
        for i, (name, those) in enumerate(values):
            folders = [where, *(run_dir([*first[:i], other, *first[i + 1 :]]) for other in those[1:])]
            if None not in folders and (twice := next((folder for folder in folders if folders.count(folder) > 1), None)):
                shared.append((name, twice))
        if shared:
            varied = [name for name, those in values if len(those) > 1]
            names = [f"hydra:runtime.choices.{name}" if name in self.groups else name for name in varied if name != "run_dir"]
            if not names or not all(re.fullmatch(r"[\w.:]+", name) for name in names):
                names = ["hydra:job.num"]
            raise ConfigProblem(
                f"jobs that differ in {', '.join(name for name, _ in shared)} would share the folder run_dir={shared[0][1]}",
                f"run_dir='runs/sweep/{'-'.join(f'${{{name}}}' for name in names)}'",
            )

    def _of_choices(self, arguments: Sequence[str], compose: Callable[..., Any]) -> Any:
        """The settings that there are with the choices that are among the arguments."""
        from hydra.errors import HydraException

        chosen = []
        for argument in arguments:
            name, _, value = argument.lstrip("+").partition("=")
            if (group := name.split("@")[0]) in self.groups and value in choices(group):
                chosen.append(argument)
        with suppress(HydraException):
            return compose(self.config_name, overrides=chosen)
        return compose(self.config_name)

    def _explain(self, argument: str, settings: Any) -> None:
        """Raise for the argument that is wrong, if its name or choice is."""
        name, separator, value = argument.lstrip("+~").partition("=")
        if not separator:
            raise ConfigProblem(f"'{argument}' is not a setting: write name=value", self._listed)
        head, last = name.split(".")[0], name.rpartition(".")[2]
        if head in self.groups and head not in settings and head != name:
            raise ConfigProblem(
                f"{name} is a setting of a {head}, and none is chosen", f"choose one first: {head}={'|'.join(choices(head))}"
            )
        there = [*_dotted(settings), *self.groups]
        folder = name.split("@")[0]
        if folder in self.groups and value not in choices(folder) and not argument.startswith("~"):
            raise ConfigProblem(
                f"there is no {folder} '{value}'{did_you_mean(value, choices(folder))}",
                f"the choices are {', '.join(choices(folder))}",
            )
        if name in there or "@" in name:
            return
        having = [choice for choice in choices(head) if last in _keys(head, choice)] if head in self.groups else []
        if having and name.count(".") == 1:
            said = f"{name} is a setting of {head}={'|'.join(having)}, and another {head} is chosen"
            inside = next((one for one in there if one.startswith(f"{head}.") and one.endswith(f".{last}")), None)
            raise ConfigProblem(said, f"{inside}={value}" if inside else f"choose it: {head}={having[0]}; {self._listed}")
        known = [
            *there,
            *(f"{group}.{key}" for group in self.groups for choice in choices(group) for key in _keys(group, choice)),
        ]
        raise ConfigProblem(f"there is no setting '{name}'{did_you_mean(name, known)}", self._listed)

    def help(self, about: Sequence[str] = ()) -> str:
        """Examples, the choices of each group, and the settings with their values now; or about groups, every setting of every choice.

        Raises:
            ConfigProblem: there is no such group.
        """
        if groups := [argument.split(".")[0] for argument in about]:
            return "\n\n".join(self._of_group(group) for group in dict.fromkeys(groups))
        lines = [f"{self.script}: {self.summary}", "", f"usage: {self.script} [name=value …]", "", "examples:"]
        lines += [f"  {example}" for example in self.examples]
        lines += [
            "",
            f"choices, as group=choice ({self.script} --help GROUP shows the settings of each, as group.name=value):",
        ]
        for group in self.groups:
            lines.append(f"  {group}")
            for choice in choices(group):
                lines.append(f"    {choice:<24} {_describe(group, choice)}")
        lines += ["", "settings:"]
        lines += [f"  {line}" for line in self._own_settings()]
        lines += [
            "",
            f"{self.script} --cfg job prints every setting as it will be. --hydra-help tells of sweeps and tab completion.",
        ]
        return "\n".join(lines)

    def _of_group(self, group: str) -> str:
        """Every choice of a group, and what it sets."""
        if group not in self.groups:
            raise ConfigProblem(
                f"--help knows no group '{group}'{did_you_mean(group, self.groups)}",
                f"the groups are {', '.join(self.groups)}; {self.script} --help tells of all else",
            )
        texts = {choice: _read(f"{group}/{choice}.yaml") for choice in choices(group)}
        everywhere = all("@package _global_" in text for text in texts.values())
        then = " sets what stands below it" if everywhere else f", then {group}.NAME=VALUE for what stands below it"
        lines = [f"{self.script} {group}=CHOICE{then}"]
        for choice, text in texts.items():
            basis = re.search(r"^defaults: \[(\w+)\]", text, re.MULTILINE)
            settings = _settings(group, choice)
            lines += ["", f"{group}={choice}", f"  # {_describe(group, choice)}"]
            lines += [f"  # As {group}={basis[1]}{', but for:' if settings else '.'}"] if basis else []
            lines += [f"  {line}" for line in settings]
        return "\n".join(lines)

    def _own_settings(self) -> list[str]:
        """The command's own part of its YAML, comments too."""
        text = _read(f"{self.config_name}.yaml")
        body = text[text.index("\n\n") :].split("\nhydra:")[0]
        return body.strip().split("\n")


def _values(override: Any, group: str | None, most: int) -> list[str]:
    """What a group goes through in a sweep, or the first values of another setting, each as it would be typed; nothing, if that is for a sweeper
    to find."""
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    if not override.is_sweep_override():
        return [override.input_line]
    name = override.input_line.partition("=")[0]
    try:
        found = (
            override.value().filter(choices(group))
            if group and isinstance(override.value(), Glob)
            else override.sweep_string_iterator()
        )
        return [f"{name}={value}" for value in islice(found, None if group else most)]
    except HydraException:
        return []


def choices(group: str) -> list[str]:
    """The YAML files of a config group."""
    folder = files("seq2seq.conf") / group
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _read(path: str) -> str:
    return (files("seq2seq.conf") / path).read_text(encoding="utf-8")


def _describe(group: str, choice: str) -> str:
    """The first comment of a YAML file that is not for Hydra."""
    comments = [line[1:].strip() for line in _read(f"{group}/{choice}.yaml").split("\n") if line.startswith("#")]
    return next((comment for comment in comments if not comment.startswith("@")), "")


def _settings(group: str, choice: str) -> list[str]:
    """The lines of a YAML file that are settings or tell of them, without what `_describe` says."""
    described = f"# {_describe(group, choice)}"
    lines = _read(f"{group}/{choice}.yaml").strip().split("\n")
    return [line for line in lines if line != described and not line.startswith(("# @", "_target_", "defaults: ["))]


def _keys(group: str, choice: str) -> list[str]:
    """The settings a choice brings, by name."""
    return re.findall(r"^(\w+):", _read(f"{group}/{choice}.yaml"), re.MULTILINE)


def _dotted(config: Any, prefix: str = "") -> list[str]:
    names: list[str] = []
    for key in config:
        name = f"{prefix}{key}"
        names.append(name)
        value = config._get_node(key)
        if hasattr(value, "keys"):
            names += _dotted(value, f"{name}.")
    return names

"""Options, files and Python arguments of a method are the fields of one dataclass."""

import argparse
import json
import subprocess
import sys
from dataclasses import fields

import pytest

from heedloop_trainer.commands.settings import (
    add_setting_options,
    configured,
    field_docs,
    given_settings,
    read_settings,
)
from heedloop_trainer.commands.train import add_arguments
from heedloop_trainer.commands.train_job import config_of
from heedloop_trainer.jobs.job import CONFIGS, JobError
from heedloop_trainer.jobs.models import _function
from heedloop_trainer.methods.sft import SFTConfig
from heedloop_trainer.ppo.config import PPOConfig


def parsed(base, *args):
    parser = argparse.ArgumentParser()
    add_setting_options(parser.add_argument_group(), base)
    return configured(base, given_settings(parser.parse_args(list(args))))


@pytest.mark.parametrize("cls", {c.__name__: c for c in CONFIGS.values()}.values())
def test_every_setting_is_an_option_with_help_and_default(cls):
    parser = argparse.ArgumentParser()
    add_setting_options(parser.add_argument_group(), cls())
    text = " ".join(parser.format_help().split())
    docs = field_docs(cls)
    for field in fields(cls):
        assert f"--{field.name.replace('_', '-')}" in text
        assert field.name in docs or field.name in ("optimiser", "sampling"), field.name
    assert "(default: " in text


def test_options_set_fields_also_inside():
    config = parsed(
        SFTConfig(), "--epochs", "3", "--loss-turns", "all", "--bfloat16", "--optimiser-warmup-share", "0.2",
        "--chat-template-kwargs", '{"enable_thinking": false}', "--max-steps", "7",
    )  # fmt: skip
    assert (config.epochs, config.loss_turns, config.bfloat16, config.max_steps) == (3, "all", True, 7)
    assert config.optimiser.warmup_share == 0.2
    assert config.chat_template_kwargs == {"enable_thinking": False}
    assert parsed(PPOConfig(), "--kl", "0.1").kl_coefficient == 0.1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "epochs: 4\noptimiser:\n  learning_rate: 1e-4\n"),
        ("a.json", '{"epochs": 4, "optimiser": {"learning_rate": 1e-4}}'),
    ],
)
def test_files_are_yaml_or_json(tmp_path, name, text):
    file = tmp_path / name
    file.write_text(text)
    config = configured(SFTConfig(), read_settings(file))
    assert (config.epochs, config.optimiser.learning_rate) == (4, 1e-4)
    assert config.optimiser.schedule == "cosine"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 1}, "'epoch' is not a setting; did you mean epochs"),
        ({"optimiser": {"lr": 1}}, "'optimiser.lr' is not a setting"),
        ({"epochs": "two"}, "epochs must be a whole number, not 'two'"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"loss_turns": "first"}, "loss_turns must be one of last, all"),
        ({"optimiser": 1e-4}, "optimiser must be an object"),
        ({"bfloat16": "yes"}, "bfloat16 must be true or false"),
    ],
)
def test_a_wrong_setting_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        configured(SFTConfig(), values)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("a.yaml", "a: [1", "is no YAML"), ("a.json", "{", "line 1"), ("a.yaml", "- 1", "by name")],
)
def test_a_broken_file_says_where(tmp_path, name, text, message):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_settings(file)


def test_the_methods_are_listed_without_torch_and_each_shows_its_defaults(capsys):
    code = "import sys; from heedloop_cli.main import main\ntry: main(['train', '--help'])\nexcept SystemExit: assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["dpo", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for part in ("--beta X", "(default: 0.1)", "--limit", "--chat-template", "(default: 1e-06)"):
        assert part in printed


def test_a_reward_function_is_read_from_a_file_or_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "my_reward.py").write_text("def short(responses):\n    return [1.0 for _ in responses]\n")
    assert _function(f"{tmp_path}/my_reward.py:short")([1, 2]) == [1.0, 1.0]
    monkeypatch.chdir(tmp_path)
    assert _function("my_reward:short")([1]) == [1.0]
    for wrong in ("my_reward.py:long", "none.py:short", "nowhere:short", "short"):
        with pytest.raises(JobError, match=r"FILE\.py:NAME"):
            _function(wrong)


def configuration(method, *args):
    """What a command's options make of a method's configuration."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return config_of(method, parser.parse_args([method, "--out", "run", *args]))


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        ("sft", "learning-rate", "3e-4"), ("kto", "learning-rate", "3e-4"), ("ppo", "learning-rate", "3e-4"),
        ("grpo", "kl", "0.3"), ("rloo", "rollouts", "7"), ("ppo", "max-response-tokens", "9"),
        ("rejection", "temperature", "0.5"), ("rejection", "max-response-tokens", "9"),
        ("dpo", "optimiser-warmup-share", "0.3"), ("ppo", "critic-learning-rate", "3e-4"),
    ],
)  # fmt: skip
def test_an_option_and_a_line_of_a_file_are_the_same(tmp_path, method, option, value):
    file = tmp_path / "settings.yaml"
    name = option.replace("-", "_").replace("optimiser_", "optimiser.").replace("critic_", "critic.")
    file.write_text(f"{name}: {value}\n")
    given = configuration(method, f"--{option}", value)
    assert given != configuration(method)
    assert configuration(method, "--config", str(file)) == given


def test_adapters_learn_faster_unless_a_rate_is_given(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("learning_rate: 1e-6\n")
    for method, own in (("dpo", "optimiser"), ("ppo", "actor"), ("reward", "optimiser")):
        plain, adapted = (getattr(configuration(method, *lora), own) for lora in ((), ("--lora", "4")))
        assert adapted.learning_rate == pytest.approx(10 * plain.learning_rate)
        for asked in (("--config", str(file)), ("--learning-rate", "1e-6")):
            assert getattr(configuration(method, "--lora", "4", *asked), own).learning_rate == 1e-6


@pytest.mark.parametrize(
    ("architecture", "times"),
    [
        ("BertModel", 10),
        ("BertForMaskedLM", 10),
        ("BertForSequenceClassification", 1),
        ("LlamaForCausalLM", 1),
    ],
)
def test_an_encoder_without_a_head_learns_faster_and_its_head_faster_still(tmp_path, architecture, times):
    kind = "llama" if architecture.startswith("Llama") else "bert"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "architectures": [architecture]}))
    plain, found = configuration("reward"), configuration("reward", "--model", str(tmp_path))
    assert found.optimiser.learning_rate == pytest.approx(times * plain.optimiser.learning_rate)
    assert found.head_rate == times
    asked = configuration("reward", "--model", str(tmp_path), "--learning-rate", "1e-6", "--head-rate", "2")
    assert (asked.optimiser.learning_rate, asked.head_rate) == (1e-6, 2)
    file = tmp_path / "settings.yaml"
    file.write_text("learning_rate: 1e-6\nhead_rate: 3\n")
    asked = configuration("reward", "--model", str(tmp_path), "--config", str(file))
    assert (asked.optimiser.learning_rate, asked.head_rate) == (1e-6, 3)

"""What a configuration may hold, and what is derived from it."""

import pytest
from tenzo_hw.config import PRESETS, Config, preset

TINY = preset("tiny")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": 6, "sweep_turns": 4}, r"sweep_turns=4 is not possible: a divisor of columns=6"),
        ({"sweep_turns": 0}, r"sweep_turns=0 is not possible: a divisor of columns=2"),
        ({"loss_word": 31}, r"loss_word=31 is not possible: 32 to 48 bits"),
        ({"loss_word": 49}, r"loss_word=49 is not possible: 32 to 48 bits"),
        ({"incremental": 2}, r"incremental=2 is not possible: 0 or 1"),
        ({"losses": 100}, r"losses=100 is not possible: a power of two from 4 to 8192"),
    ],
)
def test_refused_values_are_named(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TINY.replace(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lanes": 2}, r"lanes=2 is not possible: 1 with loss_pipes=0"),
        ({"momentum_word": 24}, r"momentum_word=24 is not possible: 32 with loss_pipes=0"),
        ({"columns": 8, "sweep_turns": 8}, r"columns=8 is not possible: 2 or 4 with loss_pipes=0"),
        ({"word": 9}, r"word=9 is not possible: 10 bits with loss_pipes=0"),
        ({"incremental": 1}, r"incremental=1 is not possible: 0 with loss_pipes=0"),
        ({"output_word": 14}, r"output_word=14 is not possible: at most 13 bits with loss_pipes=0"),
        ({"weight_rows": 2048, "effective_rows": 4096}, r"weight_rows=2048 is not possible: at most 1024 with"),
    ],
)
def test_a_serial_machine_has_no_more_than_its_processor_can_do(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset("icebreaker").replace(**changes)


@pytest.mark.parametrize("name", PRESETS)
def test_the_answer_to_hello_is_the_configuration(name: str) -> None:
    config = preset(name)
    assert Config.from_words(config.words()) == config


def test_a_sweep_takes_as_many_times_fewer_words_as_it_has_turns() -> None:
    config = TINY.replace(columns=6, sweep_turns=3)
    assert (config.sweep_pipes, config.sweep_turns) == (2, 3)


def test_counts_walk_through_the_deepest_memory() -> None:
    config = TINY.replace(lane_depth=64, batch_depth=1024, effective_rows=256)
    assert config.count_bits == 11

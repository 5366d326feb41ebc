import time

import pytest
import torch

from conftest import small_unet
from pathseg.network import precision
from pathseg.network.devices import machine_of
from pathseg.network.precision import candidates, fastest, measured, prediction_type, record_of, training_type

CPU = torch.device("cpu")
FULL, HALF = torch.float32, torch.bfloat16


class Clock:
    """A clock that goes on while convolutions compute in a type, by what they are said to take in it."""

    def __init__(self, monkeypatch, **slow):
        self.now = 0.0
        layer = torch.nn.Conv2d.forward

        def forward(module, x):
            low = torch.is_autocast_enabled("cpu") or x.dtype != torch.float32
            self.now += slow["low"] if low else slow["full"]
            return layer(module, x)

        monkeypatch.setattr(torch.nn.Conv2d, "forward", forward)
        monkeypatch.setattr(precision, "time", self)

    def perf_counter(self):
        return self.now


@pytest.mark.parametrize(("slow", "expected"), [({"full": 0.02, "low": 0}, HALF), ({"full": 0, "low": 0.02}, FULL)])
def test_training_computes_in_what_is_fastest_here(monkeypatch, slow, expected):
    Clock(monkeypatch, **slow)
    network = small_unet(depth=2)
    before = {name: values.clone() for name, values in network.state_dict().items()}
    assert training_type("auto", network, 32, 2, CPU) == expected
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())


def test_each_is_measured_for_itself(monkeypatch):
    """What trains fastest need not predict fastest, on the same machine."""
    monkeypatch.setattr(precision, "measured", lambda run, device: {FULL: 1.0, HALF: 2.0})
    assert prediction_type("auto", small_unet(depth=2), CPU) == FULL
    monkeypatch.setattr(precision, "measured", lambda run, device: {FULL: 1.0, HALF: 0.5})
    assert prediction_type("auto", small_unet(depth=2, padding=False), CPU) == HALF


def test_a_small_gain_is_not_worth_the_precision():
    assert fastest({FULL: 1.0, HALF: 0.97}, "it") == FULL
    assert fastest({FULL: 1.0, HALF: 0.9}, "it") == HALF


def test_the_least_of_several_rounds_counts(monkeypatch):
    monkeypatch.setattr(precision, "SECONDS_TO_MEASURE", 0.1)
    delays = iter([0.05, 0.05, 0.03, 0.001])
    seconds = measured(lambda dtype: time.sleep(next(delays, 0.002)), CPU)
    assert all(value < 0.02 for value in seconds.values())


def test_what_is_asked_for_is_taken():
    assert training_type("float16", small_unet(), 32, 1, CPU) == torch.float16
    assert prediction_type("bfloat16", small_unet(), CPU) == HALF


def test_on_the_same_machine_a_model_is_not_measured_again(monkeypatch):
    network = small_unet(depth=2)
    monkeypatch.setattr(precision, "measured", lambda run, device: {FULL: 1.0, HALF: 0.5})
    record = record_of(FULL, network, CPU)
    assert record == {"training": "float32", "prediction": "bfloat16", "machine": machine_of(CPU)}
    monkeypatch.setattr(precision, "measured", lambda run, device: {FULL: 0.5, HALF: 1.0})
    assert prediction_type("auto", network, CPU, record) == HALF
    for other in (record | {"machine": "another"}, record | {"prediction": "int8"}, None, "bfloat16", ("a",)):
        assert prediction_type("auto", network, CPU, other) == FULL


@pytest.mark.parametrize(("capability", "low"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)])
def test_gpus_without_bfloat16_take_float16(monkeypatch, capability, low):
    """The device that computes is asked, not the first one."""
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: asked.append(device) or capability)
    device = torch.device("cuda", 3)
    assert candidates(device) == [FULL, low]
    assert asked == [device]
    assert candidates(torch.device("mps")) == [FULL]

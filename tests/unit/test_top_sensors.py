"""Temperatures of CPUs, from /sys as Linux has it on an Intel server, an AMD desktop and without sensors."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from insitu.record.top.sensors import Sensors
from insitu.views.top.summary import summary

from .top_ticks import machine, tick

Tree = Callable[[Mapping[str, str]], str]

# Two sockets of two cores, whose numbers have gaps, as on real ones; CPUs 4 to 7 are the second threads.
CORES = {0: (0, 0), 1: (0, 8), 2: (1, 0), 3: (1, 8), 4: (0, 0), 5: (0, 8), 6: (1, 0), 7: (1, 8)}
INTEL = {
    "class/hwmon/hwmon0/name": "acpitz",
    "class/hwmon/hwmon0/temp1_input": "27800",
    # Which device is which socket is not a matter of their order.
    "class/hwmon/hwmon1/name": "coretemp",
    "class/hwmon/hwmon1/temp1_label": "Package id 1",
    "class/hwmon/hwmon1/temp1_input": "71000",
    "class/hwmon/hwmon1/temp2_label": "Core 0",
    "class/hwmon/hwmon1/temp2_input": "70000",
    "class/hwmon/hwmon1/temp10_label": "Core 8",
    "class/hwmon/hwmon1/temp10_input": "65000",
    "class/hwmon/hwmon2/name": "coretemp",
    "class/hwmon/hwmon2/temp1_label": "Package id 0",
    "class/hwmon/hwmon2/temp1_input": "52000",
    "class/hwmon/hwmon2/temp2_label": "Core 0",
    "class/hwmon/hwmon2/temp2_input": "51000",
    "class/thermal/thermal_zone0/type": "acpitz",
    "class/thermal/thermal_zone0/temp": "27800",
    "class/thermal/cooling_device0/cur_state": "0",
}
AMD = {
    "class/hwmon/hwmon3/name": "k10temp",
    "class/hwmon/hwmon3/device/local_cpulist": "0-3",
    "class/hwmon/hwmon3/temp1_label": "Tctl",
    "class/hwmon/hwmon3/temp1_input": "80250",
    "class/hwmon/hwmon3/temp2_label": "Tdie",
    "class/hwmon/hwmon3/temp2_input": "60250",
    "class/hwmon/hwmon3/temp3_label": "Tccd1",
    "class/hwmon/hwmon3/temp3_input": "58000",
}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    def write(files: Mapping[str, str]) -> str:
        for cpu, (package, core) in CORES.items():
            home = f"devices/system/cpu/cpu{cpu}/topology"
            files = {**files, f"{home}/physical_package_id": str(package), f"{home}/core_id": str(core)}
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(f"{content}\n")
        return str(tmp_path)

    return write


def degrees(sys: str) -> tuple[float | None, dict[int, float]]:
    sensors = Sensors(list(CORES), sys)
    try:
        return sensors.read()
    finally:
        sensors.close()
        sensors.close()


def test_both_threads_of_a_core_have_its_temperature_and_a_core_without_a_sensor_the_package_s(tree: Tree) -> None:
    assert degrees(tree(INTEL)) == (71.0, {0: 51, 1: 52, 2: 70, 3: 65, 4: 51, 5: 52, 6: 70, 7: 65})


def test_amd_s_cpus_have_the_die_s_temperature_without_the_offset_of_the_control_value(tree: Tree) -> None:
    assert degrees(tree(AMD)) == (80.25, {0: 60.25, 1: 60.25, 2: 60.25, 3: 60.25})


def test_without_sensors_nothing_is_known_and_that_is_said(tree: Tree) -> None:
    assert degrees(tree({})) == (None, {})
    text = "\n".join("".join(part for part, _ in line) for line in summary([tick(1)], 200))
    assert "no temperature sensor" in text and "°C" not in text


def test_a_sensor_that_is_broken_or_elsewhere_is_no_cpu_s(tree: Tree) -> None:
    broken = {**INTEL, "class/hwmon/hwmon2/temp2_input": "-274000", "class/hwmon/hwmon1/temp2_label": "Core x"}
    assert degrees(tree(broken))[1] == {0: 52, 1: 52, 2: 71, 3: 65, 4: 52, 5: 52, 6: 71, 7: 65}
    assert degrees(tree({"class/hwmon/hwmon9/name": "nvme", "class/hwmon/hwmon9/temp1_input": "40000"}))[0] == 71.0


@pytest.mark.parametrize(("cpus", "line"), [(2, "CPU 1"), (8, "°C 0-1")])
def test_the_screen_shows_a_cpu_s_temperature_beside_it_or_in_a_strip(cpus: int, line: str) -> None:
    hot = tick(1, machine=machine(cpus, temperature=99.0, temperatures={0: 40.0, 1: 97.4}))
    texts = ["".join(text for text, _ in each) for each in summary([hot], 120)]
    assert all(len(text) <= 120 for text in texts)
    [found] = [text for text in texts if text.startswith(line)]
    assert found.endswith("97 °C")

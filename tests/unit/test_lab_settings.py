"""Which settings of two kernels count as different, and which are shown first."""

from insitu.lab.compare.kernel_settings import differences


def _names(first: dict[str, str], second: dict[str, str]) -> list[str]:
    return [difference.setting for difference in differences(first, second)]


def test_equal_settings_and_those_that_change_with_every_boot_are_left_out() -> None:
    first = {"CONFIG_SMP": "y", "kernel/random/boot_id": "1", "CONFIG_CC_VERSION_TEXT": '"gcc 12"'}
    assert _names(first, first | {"kernel/random/boot_id": "2", "CONFIG_CC_VERSION_TEXT": '"gcc 13"'}) == []


def test_an_option_that_is_off_equals_one_that_the_other_kernel_does_not_have() -> None:
    assert _names({"CONFIG_KFENCE": "n"}, {}) == []
    assert _names({"CONFIG_KFENCE": "n"}, {"CONFIG_KFENCE": "y"}) == ["CONFIG_KFENCE"]
    # Elsewhere a bare n may be a value.
    assert _names({"kernel/name": "n"}, {}) == ["kernel/name"]


def test_what_somebody_typed_comes_first_then_what_makes_every_access_dearer() -> None:
    first = {"CONFIG_VIRTIO": "y", "CONFIG_KASAN": "n", "command line mitigations": "off", "vm/swappiness": "60"}
    second = {"CONFIG_VIRTIO": "m", "CONFIG_KASAN": "y", "vm/swappiness": "10"}
    assert _names(first, second) == ["command line mitigations", "CONFIG_KASAN", "vm/swappiness", "CONFIG_VIRTIO"]


def test_what_both_kernels_know_comes_before_what_one_has_alone() -> None:
    first = {"CONFIG_RCU_EXPERT": "y", "CONFIG_SCHED_CORE": "n"}
    second = {"CONFIG_SCHED_CORE": "y"}
    assert _names(first, second) == ["CONFIG_SCHED_CORE", "CONFIG_RCU_EXPERT"]


def test_capabilities_and_drivers_come_last() -> None:
    second = {"CONFIG_ARCH_HAS_UBSAN": "y", "CONFIG_DRM_I915_PREEMPT_TIMEOUT": "1", "CONFIG_KFENCE": "y"}
    assert _names({}, second)[0] == "CONFIG_KFENCE"

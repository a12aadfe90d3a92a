"""Training with FSDP: each process holds one shard of the network's parameters (Zhao et al., VLDB 2023)."""

import os
from typing import Any

import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from diffusers.training_utils import EMAModel
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from xray2ctpa_core.errors import ConfigError


def check_launch() -> None:
    """Checks the launch options; must be called before accelerate is set up.

    Raises:
        ConfigError: FSDP of version 1, which shards concatenated parameters instead of each parameter.
    """
    if _is_asked_for() and os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigError("Expected FSDP of version 2, got 1.", "Pass --fsdp_version 2 to accelerate launch.")


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether the run was launched with --use_fsdp.

    accelerate shards on GPUs only and silently trains CPU processes by DDP; torch can shard on CPUs, so
    sharding is switched on for them here.
    """
    state = accelerator.state
    if _is_asked_for() and state.distributed_type == DistributedType.MULTI_CPU:
        state.fsdp_plugin = FullyShardedDataParallelPlugin()
        state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
    return state.distributed_type == DistributedType.FSDP


def _is_asked_for() -> bool:
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def gather(sharded: nn.Module, whole: nn.Module) -> None:
    """Copies the weights of ``sharded`` into ``whole``, the same network without shards; every process must
    call it."""
    whole.load_state_dict({name: _whole(value) for name, value in sharded.state_dict().items()})


class ShardedAverage(EMAModel):
    """The running mean of sharded weights: each process holds its shards, a checkpoint the whole weights."""

    shadow_params: list[Any]  # DTensors; whole tensors only while a checkpoint is read

    def state_dict(self) -> dict[str, Any]:
        """See EMAModel; every process must call it."""
        shadows = [_whole(shadow) for shadow in self.shadow_params]
        return super().state_dict() | {"shadow_params": shadows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See EMAModel; every process must call it."""
        shards = self.shadow_params
        super().load_state_dict(state_dict)
        self.shadow_params = [
            distribute_tensor(value.to(shard.device), shard.device_mesh, shard.placements)
            for value, shard in zip(self.shadow_params, shards, strict=True)
        ]


def _whole(value: torch.Tensor) -> torch.Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value

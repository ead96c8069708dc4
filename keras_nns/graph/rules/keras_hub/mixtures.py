"""Decoders whose feed-forward part is a mixture of experts, of which each token gets a few.

An expert is watched by how much of the tokens the router sends to it (the soft counts of Muzio et
al. 2024, *SEER-MoE*), a hidden unit by its value in the experts that a token is sent to. The router
forgets an expert that leaves: its softmax is over those that stay, in the cut model as in the mask,
whose router closes it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from keras import ops
from keras_hub.src.models.gpt_oss.gpt_oss_decoder import GptOssTransformerDecoder
from keras_hub.src.models.mixtral.mixtral_decoder import MixtralTransformerDecoder
from keras_hub.src.models.qwen3_moe.qwen3_moe_decoder import Qwen3MoeTransformerDecoder
from keras_hub.src.models.qwen_moe.qwen_moe_decoder import QwenMoeTransformerDecoder

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.keras_hub.blocks import DENSE, PUBLIC_DENSE, Block
from keras_nns.graph.rules.keras_hub.sized import sized, stock_of
from keras_nns.graph.rules.records import Through, Units
from keras_nns.graph.rules.registry import rule

_PADDING = "decoder_padding_mask"
_GATE, _UP = "_expert_feedforward_gate_dense", "_expert_feedforward_intermediate_dense"
_OUT = "_expert_feedforward_output_dense"
_FORGOTTEN = ("router_aux_loss_coef", "output_router_logits", "layer_index")


def _moe_config(layer: Any) -> dict[str, Any]:
    """Return what a layer was made with: its own `get_config` leaves arguments out."""
    config = stock_of(layer).get_config(layer)  # type: ignore[attr-defined]
    return {**{key: getattr(layer, key) for key in _FORGOTTEN if hasattr(layer, key)}, **config}


@rule(MixtralTransformerDecoder, sized(MixtralTransformerDecoder, _moe_config))
def mixtral_decoder(site: Site) -> None:
    """Heads with their key and value head, experts, and the hidden units of all experts."""
    block = Block(site, padding=_PADDING)
    block.attention("_self_attention_layer", PUBLIC_DENSE)
    moe = site.operation._sparse_moe_block
    bank = moe.expert_bank
    experts, hidden = _mixture(block, site, moe, "_sparse_moe_block", bank.intermediate_dim)
    for weight in (getattr(bank, _GATE), getattr(bank, _UP)):
        site.bind(weight, {0: experts, 2: hidden})
    site.bind(getattr(bank, _OUT), {0: experts, 1: hidden}, silence=(1,))
    block.count("intermediate_dim", hidden)
    block.finish()


@rule(
    *(QwenMoeTransformerDecoder, sized(QwenMoeTransformerDecoder, _moe_config)),
    *(Qwen3MoeTransformerDecoder, sized(Qwen3MoeTransformerDecoder)),
)
def qwen_moe_decoder(site: Site) -> None:
    """Heads with their key and value head, experts, and the hidden units of all experts.

    Those of the expert that every token gets leave by themselves; a block may also hold no mixture.
    """
    layer = site.operation
    block = Block(site, padding=_PADDING)
    public = hasattr(layer._self_attention_layer, "query_dense")
    names = ("query_dense", "key_dense", "value_dense", "_output_dense") if public else DENSE
    block.attention("_self_attention_layer", names)
    up = ("_feedforward_intermediate_dense", "_feedforward_gate_dense")
    down, moe = "_feedforward_output_dense", layer.mlp
    if not hasattr(moe, "expert_bank"):
        paths = [f"mlp.{name}" for name in up]
        block.hidden(paths, f"mlp.{down}", activation=moe.activation)
    else:
        bank = moe.expert_bank
        experts, hidden = _mixture(block, site, moe, "mlp", bank.intermediate_dim)
        both = np.concatenate([hidden, hidden])  # The gate stands in front of what it gates.
        site.bind(getattr(bank, _GATE), {0: experts, 2: both})
        site.bind(getattr(bank, _OUT), {0: experts, 1: hidden}, silence=(1,))
        block.count("moe_intermediate_dim", hidden)
        if hasattr(moe, "shared_expert_dense"):
            paths = [f"mlp.shared_expert_dense.{name}" for name in up]
            block.hidden(
                paths,
                f"mlp.shared_expert_dense.{down}",
                activation=moe.shared_expert_dense.activation,
                key="shared_expert_intermediate_dim",
                kind="shared_hidden",
            )
    block.finish()


@rule(GptOssTransformerDecoder, sized(GptOssTransformerDecoder))
def gpt_oss_decoder(site: Site) -> None:
    """Heads with their key and value head, experts, and the hidden units of all experts."""
    layer = site.operation
    block = Block(site, padding=_PADDING)
    queries = block.attention("self_attention_layer", PUBLIC_DENSE)
    site.bind(layer.self_attention_layer.sinks, {0: queries})
    moe = layer.sparse_moe_block
    bank = moe.experts
    path = "sparse_moe_block"
    experts, hidden = _mixture(
        block, site, moe, path, bank.intermediate_dim, router="router.router_dense"
    )
    both = np.repeat(hidden, 2)  # Gate and what it gates take turns.
    site.bind(bank.gate_up_proj, {0: experts, 2: both})
    site.bind(bank.gate_up_proj_bias, {0: experts, 1: both})
    site.bind(bank.down_proj, {0: experts, 1: hidden}, silence=(1,))
    site.bind(bank.down_proj_bias, {0: experts})
    block.count("intermediate_dim", hidden)
    block.finish()


def _mixture(
    block: Block,
    site: Site,
    moe: Any,
    path: str,
    count: int,
    *,
    router: str = "_sparse_feedforward_gate_dense",
) -> tuple[Units, Units]:
    """Make experts and the hidden units of all of them, and say where they are seen."""
    experts = site.make(moe.num_experts, "experts")
    hidden = site.make(count, "hidden")
    site.at_least(experts, moe.top_k)
    block.route(f"{path}.{router}", experts)
    block.count("num_experts", experts)
    site.reads(experts)
    site.reads(hidden)
    bank = moe.experts if hasattr(moe, "router") else moe.expert_bank
    for units, values, products in (
        (experts, _sent, _products_of_experts),
        (hidden, _routed, _products_of_hidden),
    ):
        through = Through(bank, partial(products, moe))
        site.watch(units, moe, partial(values, moe), padding=_PADDING, through=through)
    return experts, hidden


def _sent(moe: Any, x: Any) -> Any:
    """Return how much of each token `(batch, steps, features)` each expert gets."""
    x = ops.cast(x, "float32")
    if hasattr(moe, "router"):
        dense = moe.router.router_dense
        logits = ops.matmul(x, ops.cast(dense.kernel, "float32")) + ops.cast(dense.bias, "float32")
        best, places = ops.top_k(logits, k=moe.top_k)
        shares = ops.softmax(best, axis=-1)
    else:
        kernel = ops.cast(moe._sparse_feedforward_gate_dense.kernel, "float32")
        shares, places = ops.top_k(ops.softmax(ops.matmul(x, kernel), axis=-1), k=moe.top_k)
        if getattr(moe, "norm_top_k_prob", True):
            shares = shares / ops.sum(shares, axis=-1, keepdims=True)
    return ops.sum(ops.one_hot(places, moe.num_experts) * shares[..., None], axis=-2)


def _routed(moe: Any, x: Any) -> Any:
    """Return the magnitude of each hidden unit in the experts that a token is sent to."""
    hidden = ops.abs(_hidden(moe, ops.cast(x, "float32")))
    return ops.einsum("...e,...em->...m", _sent(moe, x), hidden)


def _products_of_experts(moe: Any, x: Any, answers: Any, gradient: Any) -> Any:
    """Return activation times gradient of each expert, from answers `(experts, tokens, features)`.

    What comes back to an expert's answer is what the router sent there.
    """
    return ops.transpose(ops.sum(ops.cast(answers, "float32") * gradient, axis=-1))


def _products_of_hidden(moe: Any, x: Any, answers: Any, gradient: Any) -> Any:
    """Return activation times gradient of each hidden unit, over all experts, by token."""
    hidden = _hidden(moe, x)
    hidden = ops.reshape(hidden, (-1, *hidden.shape[-2:]))
    down = moe.experts.down_proj if hasattr(moe, "router") else getattr(moe.expert_bank, _OUT)
    back = ops.einsum("eth,emh->tem", gradient, ops.cast(down, "float32"))
    return ops.sum(hidden * back, axis=1)


def _hidden(moe: Any, x: Any) -> Any:
    """Return the hidden values of all experts, `(batch, steps, experts, units)`."""
    if hasattr(moe, "router"):
        bank = moe.experts
        both = ops.einsum("...h,ehm->...em", x, ops.cast(bank.gate_up_proj, "float32"))
        both = both + ops.cast(bank.gate_up_proj_bias, "float32")
        gate = ops.minimum(both[..., ::2], bank.limit)
        up = ops.clip(both[..., 1::2], -bank.limit, bank.limit)
        return (up + 1) * gate * ops.sigmoid(gate * bank.alpha)
    bank = moe.expert_bank
    gate = ops.einsum("...h,ehm->...em", x, ops.cast(getattr(bank, _GATE), "float32"))
    if hasattr(bank, _UP):
        up = ops.einsum("...h,ehm->...em", x, ops.cast(getattr(bank, _UP), "float32"))
    else:
        gate, up = ops.split(gate, 2, axis=-1)
    return up * bank.activation(gate)

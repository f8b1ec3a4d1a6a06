"""Training a model with Keras's ``fit``. Built by hand in notebook 05_training."""

import dataclasses
import hashlib
import json
import math
import os
from pathlib import Path

import numpy as np

from charlstm.console import say, someone_watches
from charlstm.evaluation import bits_per_char
from charlstm.files import STATE_FORMAT, TrainingState, load_state, path_to_write, to_json
from charlstm.model import recall, remember, weights_of
from charlstm.pipeline import Batches, check_ids
from charlstm.recipes import Recipe, find_recipe
from charlstm.sampling import Generator


def train(
    model: "keras.Model",
    dataset: Batches,
    recipe: str | Recipe | None = None,
    epochs: int | None = None,
    held_out_ids: np.ndarray | None = None,
    checkpoint: str | os.PathLike | None = None,
    sample_prompt: str | None = None,
    matmul_dtype: str = "float32",
    callbacks: "list[keras.callbacks.Callback] | tuple" = (),
) -> dict[str, list[float]]:
    """Train with Adam and cross-entropy (chapter 16), by Keras's ``fit``. Built in notebook 05_training.

    model: of ``build_model``, for which each step is the one written by hand (``charlstm.train_step``); with another
        Keras model from ids to logits, or on a GPU, it is Keras's own, and a line says so and why.
    dataset: of ``make_dataset``. (For a pipeline of your own call ``fit`` of ``charlstm.train_step.ByHand``.)
    recipe: ``"quick"``, ``"book"``, ``"best"``, ``"fine_tune"`` or a ``Recipe``: learning rate, schedule, clipping ...;
        None: that of ``build_model`` or ``load_model``. epochs: overrides the recipe's.
    held_out_ids: ids, ``[n]``, that are not in ``dataset``. They are measured after each epoch (``bits_per_char``). If
        the recipe says ``keep_best``, the model has the weights of the best epoch in the end, or those it came with, if
        it was trained already and none is better; else it has those of the last.
    checkpoint: a .safetensors file to write after each epoch. After an interruption, the same call goes on from there,
        and ends with the same weights, to the bit, as without it (on the same CPU with the same versions). With more
        epochs it goes on for these; the learning rate then stays at the end of the schedule that was begun.
    sample_prompt: under each epoch's line stands what the model then writes from this prompt (``TextLine``).
    matmul_dtype: ``"bfloat16"`` computes the products of the step by hand with fewer digits, faster on some processors.
    callbacks: further ones for ``fit``, such as ``keras.callbacks.TensorBoard``; they see ``held_out_bits``, too.

    Returns the history, with a value for each epoch: ``"loss"``, in nats per character, the mean while the model was
    learning; and ``"held_out_bits"``, in bits per character, if asked for. What can't be used raises ValueError,
    TypeError or OSError before the first step; a loss of NaN raises FloatingPointError. Ctrl-C leaves the model the
    weights of that moment.
    """
    import keras

    from charlstm.callbacks import BestWeights, Checkpoint, Report, TextLine

    recipe = find_recipe(recipe or recall(model, "recipe") or "quick", epochs)
    path = None if checkpoint is None else path_to_write(checkpoint, ".safetensors", STATE_FORMAT)
    check_training(model, dataset, recipe, held_out_ids, sample_prompt)
    settings = describe(model, dataset, recipe, held_out_ids, matmul_dtype) if path else {}
    begun = path is not None and path.exists()
    state = go_on(settings, path, recipe) if begun else begin(settings, model, dataset, recipe, held_out_ids)
    learner = compile_learner(model, dataset, recipe, state, matmul_dtype)
    remember(model, vocabulary=recall(model, "vocabulary") or dataset.vocabulary)
    best = BestWeights(held_out_ids, recipe, **state.progress["best"], weights=state.weights)
    keeper = Checkpoint(path, state, best)
    each_epoch = [keras.callbacks.TerminateOnNaN(), best, keeper, Report()]
    each_epoch += [] if sample_prompt is None else [TextLine(sample_prompt, recall(model, "vocabulary"), recipe)]
    fit(learner, dataset, recipe.epochs, state, [*each_epoch, *callbacks])
    return keeper.history


def fit(learner: "keras.Model", dataset: Batches, epochs: int, state: TrainingState, callbacks: list) -> None:
    """Keras's ``fit``, from ``state`` on."""
    done = len(state.progress["history"].get("loss", []))
    batches = dataclasses.replace(dataset, seed=state.progress["seed"]).batches_from(done)
    plan = {"epochs": epochs, "initial_epoch": done, "steps_per_epoch": len(dataset), "shuffle": False}
    learner.fit(batches, callbacks=callbacks, verbose=int(someone_watches()), **plan)


def check_training(model: "keras.Model", dataset: Batches, recipe: Recipe, held_out_ids, prompt: str | None) -> None:
    """Raises TypeError or ValueError unless ``model`` was built for ``recipe``, or is trained already, and can learn from
    ``dataset``, be measured and write."""
    if not isinstance(dataset, Batches):
        raise TypeError("train takes make_dataset(ids): for a pipeline of your own, fit train_step.ByHand(model)")
    stateful = any(getattr(layer, "stateful", False) for layer in model.layers)
    shape = () if stateful else model(np.zeros((1, 1), np.int32)).shape  # without an Input, this makes the weights
    if len(shape) != 3:
        advice = "give its layers return_sequences=True, and not stateful=True, for which a recipe has carry_state"
        raise ValueError(f"the model must turn ids [B, T] into logits [B, T, V], for any B and T: {advice}")
    built = recall(model, "recipe") or recipe
    for name in ("output_dropout",) if is_trained(model) else ("output_dropout", "embeddings_stddev"):
        if (here := getattr(recipe, name)) != (there := getattr(built, name)):
            raise ValueError(f"the model was built with {name}={there}, the recipe has {here}: build it with the same")
    if recipe.carry_state != dataset.carry_state:
        raise ValueError(f"this recipe needs make_dataset(ids, carry_state={recipe.carry_state})")
    check_ids(dataset.ids, shape[-1], recall(model, "vocabulary"))
    if held_out_ids is not None:
        check_ids(held_out_ids, shape[-1], recall(model, "vocabulary") or dataset.vocabulary, least=2)
        weights_of(model)
    if prompt is not None:
        Generator.from_model(model, recall(model, "vocabulary") or dataset.vocabulary).generate(prompt, 1)


def is_trained(model: "keras.Model") -> bool:
    """Whether ``model`` has learned something: before its first step the last bias is 0."""
    return bool(np.any(model.get_weights()[-1]))


def describe(model: "keras.Model", dataset: Batches, recipe: Recipe, held_out_ids, matmul_dtype: str) -> dict:
    """What must be the same when a training goes on, as JSON gives it back."""
    layers = [f"{type(layer).__name__} {layer.count_params():,} {layer.dtype_policy.name}" for layer in model.layers]
    held_out = held_out_ids if held_out_ids is None else hashlib.sha256(np.array(held_out_ids, np.int32)).hexdigest()
    settings = {"layers": layers, "matmul_dtype": matmul_dtype, "held-out text": held_out, **dataset.describe()}
    settings |= dataclasses.asdict(recipe) | {"epochs": None}  # more of them may be asked for later
    return json.loads(to_json(settings))


def begin(settings: dict, model: "keras.Model", dataset: Batches, recipe: Recipe, held_out_ids) -> TrainingState:
    """The state of a training before its first epoch. What is trained already is measured."""
    best = {"bits": math.inf, "epoch": 0}
    if held_out_ids is not None and is_trained(model):
        best["bits"] = bits_per_char(model, held_out_ids)
        say(f"before the training: held out {best['bits']:.3f} bits per character")
    progress = {"history": {}, "best": best, "seed": dataset.chosen_seed, "schedule_epochs": recipe.epochs}
    return TrainingState(settings, progress, [], [])


def go_on(settings: dict, path: Path, recipe: Recipe) -> TrainingState:
    """The state in the file ``path``, and a line that says how far it has come.

    Raises ValueError if it is of another training, saying what differs."""
    state = load_state(path)
    for name in sorted({*settings, *state.settings}):
        if (there := state.settings.get(name)) != (here := settings.get(name)):
            differing = f"{name} {there!r} there, {here!r} here"
            raise ValueError(f"{path} is the checkpoint of another training ({differing}): give another path")
    done, planned = len(state.progress["history"]["loss"]), state.progress["schedule_epochs"]
    say(f"Going on from {path.name}: {done} of {recipe.epochs} epochs are done.")
    if recipe.schedule and planned != recipe.epochs:
        say(f"The learning rate follows the schedule for {planned} epochs that was begun, and stays at its end.")
    return state


def compile_learner(
    model: "keras.Model", dataset: Batches, recipe: Recipe, state: TrainingState, matmul_dtype: str
) -> "keras.Model":
    """What Keras is to fit, compiled, in the ``state``: the layers of ``model`` with the step by hand, or the model itself
    where that does not apply. Raises ValueError if it must apply."""
    from charlstm.train_step import ByHand, obstacle_by_hand, variables_of

    needs_hand_step = recipe.carry_state or recipe.embedding_dropout or recipe.weight_drop or matmul_dtype != "float32"
    obstacle, learner = obstacle_by_hand(model, ignore_gpu=needs_hand_step), model
    if obstacle and not needs_hand_step:
        say(f"Training with Keras's own step, because the one by hand does not apply here: {obstacle}.")
    else:  # or ByHand refuses
        learner = ByHand(model, recipe, dataset.batch_size, matmul_dtype, state.progress["seed"])
    dataclasses.replace(recipe, epochs=state.progress["schedule_epochs"]).compile(model, len(dataset))
    if learner is not model:
        learner.compile(model.optimizer, model.loss, jit_compile=False)
    for variable, value in zip(variables_of(learner), state.variables, strict=bool(state.variables)):
        variable.assign(value)
    return learner

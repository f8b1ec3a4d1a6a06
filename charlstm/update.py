"""One step in the training of a Keras model, by hand (``charlstm.step``) or by tape, as one graph. Used in 09_speed."""

import functools
import timeit
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from charlstm.console import say
from charlstm.model import StepwiseLSTM, find_difference, layers_of
from charlstm.recipes import RECIPES, Recipe
from charlstm.step import MATMUL_DTYPES, Weights, loss_and_gradients


@functools.cache
def faster_matmul_dtype() -> str:
    """``"float32"`` or ``"bfloat16"``: in which a step's product is computed faster here. Takes milliseconds."""
    factors = {dtype: (tf.ones((2048, 512), dtype), tf.ones((512, 64), dtype)) for dtype in MATMUL_DTYPES}
    # In turns, so that a moment's load falls on both; the first of each is slower, because it prepares.
    seconds = [[timeit.timeit(lambda: tf.matmul(*factors[dtype]), number=1) for dtype in factors] for _ in range(10)]
    float32, bfloat16 = np.median(seconds, axis=0)
    # Only where it is clearly faster: of two that are near each other, chance would choose on a busy machine.
    return "bfloat16" if bfloat16 < 0.75 * float32 else "float32"


def obstacle(model: keras.Model) -> str | None:
    """Why the hand-written step can't stand for ``model``, in words; None if it can."""
    if tf.config.list_physical_devices("GPU"):
        return "a GPU is there, on which Keras's own layers are faster"
    try:
        layers = layers_of(model)
    except ValueError as error:
        return str(error)
    if model.layers[:2] + model.layers[-1:] != layers:
        return "a Dropout layer stands elsewhere than after the LSTM"
    return find_difference(layers, lambda name: not name.endswith(("name", "dim", "units", "initializer", "seed")))


def choose_step(model: keras.Model) -> str | None:
    """The ``matmul_dtype`` of the hand-written step; None, and a line that says why, where it can't stand for ``model``
    and it is TensorFlow's GradientTape."""
    if (reason := obstacle(model)) is None:
        return faster_matmul_dtype()
    say(f"Training with TensorFlow's GradientTape, because the hand-written step does not apply here: {reason}.")
    return None


def weight_masks(weights: Weights, recipe: Recipe, seed: tf.Tensor) -> Weights:
    """What the recipe's dropout multiplies these weights with; other numbers for each ``seed``, int64 ``[2]``."""
    rates = {"embeddings": recipe.embedding_dropout, "lstm_recurrent_kernel": recipe.weight_drop}
    return {
        name: tf.cast(
            tf.random.stateless_uniform(weights[name].shape, tf.convert_to_tensor(seed, tf.int64) + i) >= rate,
            tf.float32,
        )
        / (1 - rate)
        for i, (name, rate) in enumerate(rates.items())
        if rate
    }


def by_hand(model: keras.Sequential, matmul_dtype: str, recipe: Recipe = RECIPES["quick"]) -> Callable:
    """The hand-written step for ``model``: a function of ids ``[B, T]``, their targets, a state or None, and a seed, to
    the loss, the gradients in the order of ``model.trainable_variables``, and the new state. Dropout layers draw their
    masks."""
    _, lstm, *dropouts, _ = model.layers

    def compute(inputs, targets, state=None, seed=(0, 0)):
        variables = map(tf.convert_to_tensor, model.trainable_variables)
        weights = dict(zip(StepwiseLSTM.weight_names, variables, strict=True))
        # All workers draw the same numbers: those of the whole batch, so that each takes others, as one alone would.
        context, (rows, steps) = tf.distribute.get_replica_context(), tf.unstack(tf.shape(inputs))
        replicas = context.num_replicas_in_sync
        mask = tf.ones((rows * replicas, steps, lstm.units)) if dropouts else None
        for dropout in dropouts:
            mask = dropout(mask, training=True)
        mask = mask[context.replica_id_in_sync_group :: replicas] if dropouts else None
        masks = weight_masks(weights, recipe, seed)
        loss, gradients, state = loss_and_gradients(weights, inputs, targets, state, mask, masks, matmul_dtype)
        return loss, [gradients[name] for name in weights], state

    return compute


def by_tape(model: keras.Model, recipe: Recipe = RECIPES["quick"]) -> Callable:
    """The same for any compiled Keras model from ids to logits, by TensorFlow's own differentiation. (Masks and a state
    for those of ``build_model`` only.)"""

    def call(inputs, state):
        if state is None:
            return model(inputs, training=True), None
        embedding, lstm, *dropouts, dense = model.layers
        lstm.return_state = True
        outputs, *state = lstm(embedding(inputs), initial_state=list(state))
        lstm.return_state = False
        for dropout in dropouts:
            outputs = dropout(outputs, training=True)
        return dense(outputs), tuple(state)

    def compute(inputs, targets, state=None, seed=(0, 0)):
        variables = [variable.value for variable in model.trainable_variables]
        named = dict(zip(StepwiseLSTM.weight_names, variables, strict=False))
        masks = weight_masks(named, recipe, seed)
        whole = {name: tf.identity(named[name]) for name in masks}
        for name, mask in masks.items():
            named[name].assign(whole[name] * mask)
        with tf.GradientTape() as tape:
            logits, state = call(inputs, state)
            loss = tf.add_n([model.loss(targets, logits), *model.losses])
            scaled = model.optimizer.scale_loss(loss)  # for small numbers in float16; else the loss itself
        # The embedding's gradient comes as a list of rows, one for each character read. Keras's Adam would square these
        # before it adds up those of the same character (seen in Keras 3.15), so it gets the sum.
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(scaled, variables)]
        for name, mask in masks.items():
            named[name].assign(whole[name])
            gradients[StepwiseLSTM.weight_names.index(name)] *= mask
        return loss, gradients, state

    return compute


def compile_step(
    model: keras.Model,
    signature: Sequence[tf.TensorSpec],
    matmul_dtype: str | None,
    recipe: Recipe = RECIPES["quick"],
    seed: int = 0,
) -> Callable:
    """A function of inputs, targets and a state (none, or hidden and cell state) that learns from them, as one graph,
    and gives the loss and the new state.

    signature: of inputs, targets and state. matmul_dtype: of the hand-written step; None: ``by_tape``. seed: of the
    masks, together with the number of the step. The compiled ``model``'s optimizer moves the weights. Under a strategy
    of tf.distribute the batch is this worker's share, and the loss that of all shares together.
    """
    strategy, alone = tf.distribute.get_strategy(), not tf.distribute.has_strategy()
    compute = by_tape(model, recipe) if matmul_dtype is None else by_hand(model, matmul_dtype, recipe)

    def move_weights(_, gradients):
        model.optimizer.apply(gradients, model.trainable_variables)

    def learn(inputs, targets, *state):
        number = tf.cast(model.optimizer.iterations, tf.int64)
        loss, gradients, new_state = compute(inputs, targets, state or None, tf.stack([seed, number]))
        if alone:  # Within merge_call, or else TensorFlow keeps the graph, and all weights, until the process ends.
            tf.distribute.get_replica_context().merge_call(move_weights, args=(gradients,))
        else:
            loss, *gradients = mean_of_all([loss, *gradients], tf.size(targets))
            move_weights(None, gradients)
        return loss, new_state if state else ()

    # Keras would shorten each worker's gradient by itself, and then add them up.
    if not alone:
        model.optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
    return tf.function(learn if alone else on_all_devices(learn, strategy), input_signature=signature)


def on_all_devices(learn: Callable, strategy: tf.distribute.Strategy) -> Callable:
    """``learn``, with this worker's share of a batch shared out once more among its devices."""
    devices = len(strategy.extended.worker_devices)

    def learn_together(*batch):
        def learn_a_share():
            device = tf.distribute.get_replica_context().replica_id_in_sync_group % devices
            return learn(*[rows[device::devices] for rows in batch])

        loss, state = tf.nest.map_structure(strategy.experimental_local_results, strategy.run(learn_a_share))
        return loss[0], tuple(tf.reshape(tf.stack(part, axis=1), (-1, part[0].shape[-1])) for part in state)

    return learn_together


def mean_of_all(values: list[tf.Tensor], count: tf.Tensor) -> list[tf.Tensor]:
    """The means over all workers' shares of a batch, from this one's over its own: ``count`` of the characters, which
    may be 0, as in a last batch of few windows."""
    weight = tf.cast(count, tf.float32)
    sums = [*(tf.math.multiply_no_nan(value, weight) for value in values), weight]
    *sums, total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, sums)
    return [value / total for value in sums]

"""The layers of a model, trained by the step written by hand, in Keras's own ``fit``. Used in 05_training, 09_speed."""

import keras
import tensorflow as tf

from charlstm.backprop import Weights, loss_and_gradients
from charlstm.console import check_number
from charlstm.model import StepwiseLSTM, layers_of
from charlstm.recipes import RECIPES, Recipe


class ByHand(keras.Sequential):
    """The layers of ``model`` once more, in a model whose ``train_step`` is the one by hand (``charlstm.backprop``).

    Compile it with a loss, and ``fit`` it: the ``model`` has the same weights. The loss is the mean over all characters.

    recipe: its dropout of weights, other numbers in each step, which depend on ``seed``.
    batch_size: of a dataset of ``make_dataset(..., carry_state=True)``, whose batches go on from one another.
    matmul_dtype: in which the LSTM's products are computed, ``"float32"`` or ``"bfloat16"``.

    Raises ValueError where the step does not apply (``obstacle_by_hand``), or for another ``matmul_dtype``.
    """

    def __init__(
        self, model: keras.Sequential, recipe: Recipe = RECIPES["quick"], batch_size=0, matmul_dtype="float32", seed=0
    ):
        if obstacle := obstacle_by_hand(model, ignore_gpu=True):
            raise ValueError(f"the step by hand does not apply: {obstacle}")
        if matmul_dtype not in ("float32", "bfloat16"):
            raise ValueError(f"matmul_dtype must be float32 or bfloat16, but is {matmul_dtype!r}")
        super().__init__([keras.Input((None,), dtype="int32"), *model.layers])
        self.recipe, self.matmul_dtype, self.seed = recipe, matmul_dtype, seed % 2**31
        check_number("batch_size", batch_size, int(recipe.carry_state), whole=True)
        zeros = tf.zeros((batch_size, model.layers[1].units))
        self.carried = [tf.Variable(zeros), tf.Variable(zeros)] if recipe.carry_state else None
        # Keras calls train_step without AutoGraph, which turns the loops of backprop into a graph.
        self.learn = tf.function(self.loss_and_gradients)

    def reset_metrics(self) -> None:
        """Keras calls this where an epoch begins: then the state is empty, too."""
        super().reset_metrics()
        for variable in self.carried or ():
            variable.assign(tf.zeros_like(variable))

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Learn from inputs and targets, ids ``[B, T]``: one step of Keras's ``fit``. Raises ValueError for others."""
        if not isinstance(data, tuple) or len(data) < 2 or data[0].shape.rank != 2:
            advice = "as dataset.map(charlstm.split_input_target).batch(64) does with chunks of ids"
            raise ValueError(f"each batch must be (inputs, targets), ids [B, T] both: make it so, {advice}")
        inputs, targets, *_ = data
        loss, gradients = self.learn(inputs, targets)
        # Within merge_call, or else TensorFlow keeps this graph, and all weights, until the process ends.
        tf.distribute.get_replica_context().merge_call(self.move_weights, args=(gradients,))
        mean_loss = next(metric for metric in self.metrics if metric.name == "loss")  # Keras's own
        mean_loss.update_state(loss, sample_weight=tf.size(targets))
        return {"loss": mean_loss.result()}

    def move_weights(self, _, gradients: list[tf.Tensor]) -> None:
        """One step of the optimizer. (The first argument is TensorFlow's strategy.)"""
        self.optimizer.apply(gradients, self.trainable_variables)

    def loss_and_gradients(self, inputs: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The loss, in nats per character, and the gradients in the order of ``trainable_variables``."""
        weights = dict(zip(StepwiseLSTM.weight_names, map(tf.convert_to_tensor, self.trainable_variables), strict=True))
        masks = self.output_mask(tf.shape(inputs)), self.weight_masks(weights)
        nats, gradients, state = loss_and_gradients(weights, inputs, targets, self.carried, *masks, self.matmul_dtype)
        for variable, value in zip(self.carried or (), state, strict=False):
            variable.assign(value)
        return tf.reduce_mean(nats), [gradients[name] for name in weights]

    def output_mask(self, shape: tf.Tensor) -> tf.Tensor | None:
        """The mask that the Dropout layers put on the LSTM's outputs, ``[B, T, H]``."""
        _, lstm, *dropouts, _ = self.layers
        mask = tf.ones((*tf.unstack(shape), lstm.units)) if dropouts else None
        for dropout in dropouts:
            mask = dropout(mask, training=True)
        return mask

    def weight_masks(self, weights: Weights) -> Weights:
        """The masks that the recipe's dropout puts on these weights, by name."""
        rates, masks = (self.recipe.embedding_dropout, self.recipe.weight_drop), {}
        for number, (name, rate) in enumerate(zip(("embeddings", "lstm_recurrent_kernel"), rates, strict=True)):
            if rate:
                seed = tf.stack([self.seed, tf.cast(self.optimizer.iterations, tf.int64)]) + number
                kept = tf.random.stateless_uniform(weights[name].shape, seed) >= rate
                masks[name] = tf.cast(kept, tf.float32) / (1 - rate)
        return masks


def obstacle_by_hand(model: keras.Model, ignore_gpu: bool = False) -> str | None:
    """Why the step by hand can't stand for Keras's own for ``model``, in words; None if it can.

    ignore_gpu: a GPU, on which Keras's own is faster, is no obstacle.
    """
    try:
        layers = layers_of(model, exactly=True)
    except ValueError as error:
        return str(error)
    if model.layers[:2] + model.layers[-1:] != layers:
        return "a Dropout layer stands elsewhere than after the LSTM"
    has_gpu = not ignore_gpu and tf.config.list_physical_devices("GPU")
    return "a GPU is there, on which Keras's own layers are faster" if has_gpu else None


def variables_of(model: keras.Model) -> list[keras.Variable]:
    """All that changes in a training: the variables of the layers, which two models may share, and of the optimizer."""
    return [*(variable for layer in model.layers for variable in layer.variables), *model.optimizer.variables]

"""All choices of a training under one name. Used from notebook 05_training on."""

import dataclasses
import math

from charlstm.console import check_number

WHOLE, POSITIVE, SHARES = ("epochs", "seq_length"), ("clip_norm", "scale_factor"), ("decay", "pull", "average")


def check_settings(settings: "Recipe | DynamicEvaluation") -> None:
    """Raises TypeError or ValueError for a number with which no training can go well."""
    for name, value in vars(settings).items():
        if not isinstance(value, bool | None):
            least = 1 if name in WHOLE else 1e-9 if name in POSITIVE else 0
            most = 0.9999 if name in SHARES or "drop" in name else math.inf
            check_number(name, value, least, most, whole=name in WHOLE)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What ``build_model`` and ``train`` do. ``dataclasses.replace(RECIPES["quick"], epochs=8)`` makes another one.

    embeddings_stddev: the embedding begins with numbers from a normal distribution of this standard deviation; None:
        with Keras's own, from -0.05 to 0.05, with which a model learns more slowly.
    learning_rate: Adam's, or with ``schedule`` its highest.
    schedule: the rate rises from a hundredth during the first epoch, and falls back along a cosine until the last.
    clip_norm: the greatest length of the gradient, of all weights together; a longer one is shortened. None: no clipping.
    carry_state: the LSTM keeps its state from batch to batch, of ``make_dataset(ids, carry_state=True)``.
    embedding_dropout, output_dropout, weight_drop: the share of the embedding's numbers, of the LSTM's outputs and of
        its recurrent kernel that is set to 0, another one in each step (Gal & Ghahramani 2016; Merity et al. 2018).
    weight_decay: in each step every weight loses this share of itself, times the learning rate (Loshchilov & Hutter
        2019).
    average: the model gets a running mean of its weights, in which each step leaves this share of the mean before it.
    scale_factor: with which its logits are multiplied in the end, in the dense layer's weights: below 1 for a model that
        is too sure of itself (calibration: Guo et al. 2017).
    keep_best: it gets those of the epoch that was best on the held-out text; or else those of the last.
    """

    embeddings_stddev: float | None
    learning_rate: float
    schedule: bool
    clip_norm: float | None
    epochs: int
    carry_state: bool = False
    embedding_dropout: float = 0.0
    output_dropout: float = 0.0
    weight_drop: float = 0.0
    weight_decay: float | None = None
    average: float | None = None
    scale_factor: float = 1.0
    keep_best: bool = True
    __post_init__ = check_settings

    def compile(self, model: "keras.Model", steps: int) -> None:
        """Give ``model`` the loss and the optimizer of this recipe; ``steps``: in an epoch."""
        import keras

        rate = self.learning_rate
        if self.schedule:
            decay_steps = max(1, (self.epochs - 1) * steps)
            settings = {"alpha": 0.01, "warmup_target": rate, "warmup_steps": steps}
            rate = keras.optimizers.schedules.CosineDecay(rate / 100, decay_steps, **settings)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        settings = {"global_clipnorm": self.clip_norm, "weight_decay": self.weight_decay}
        settings |= {"use_ema": True, "ema_momentum": self.average} if self.average else {}
        model.compile(keras.optimizers.Adam(rate, **settings), loss)
        model.optimizer.build(model.trainable_variables)  # or else TensorFlow makes the step's graph twice


_dropout = {"embedding_dropout": 0.2, "output_dropout": 0.5, "weight_drop": 0.3}
_caution = {"weight_decay": 0.1, "average": 0.99, "scale_factor": 0.825}
RECIPES = {
    # Chapter 16, exactly.
    "book": Recipe(None, learning_rate=0.001, schedule=False, clip_norm=None, epochs=20),
    # Cosine: Loshchilov & Hutter 2017. Clipping: Pascanu, Mikolov & Bengio 2013.
    "quick": Recipe(0.6, learning_rate=0.01, schedule=True, clip_norm=0.25, epochs=5),
    # For make_dataset(ids, seq_length=25, carry_state=True). Built in notebook 07_better.
    "best": Recipe(0.6, 0.008, True, 0.25, 30, carry_state=True, keep_best=False, **_dropout, **_caution),
    # For a model that is trained already, on more text of the same characters.
    "fine_tune": Recipe(0.6, learning_rate=0.003, schedule=True, clip_norm=0.25, epochs=3),
}


@dataclasses.dataclass(frozen=True)
class DynamicEvaluation:
    """How a model learns on while it reads (Krause et al. 2018): ``bits_per_char(model, ids, DynamicEvaluation())``.

    After every ``seq_length`` characters each weight takes a step down its gradient: ``learning_rate`` times the
    gradient over the root of a running mean of its square (which keeps ``decay`` of itself) plus ``epsilon``; and a
    step back to where it was in the beginning, of ``pull`` times the way.
    """

    seq_length: int = 25
    learning_rate: float = 0.001
    decay: float = 0.99
    epsilon: float = 0.001
    pull: float = 0.0005
    __post_init__ = check_settings


def find_recipe(recipe: str | Recipe, epochs: int | None = None) -> Recipe:
    """The recipe of this name, or the one given, for ``epochs`` if given. Raises ValueError for an unknown name, and
    TypeError for what is neither."""
    recipe = RECIPES.get(recipe, recipe) if isinstance(recipe, str) else recipe
    if not isinstance(recipe, Recipe):
        error = ValueError if isinstance(recipe, str) else TypeError
        raise error(f"recipe must be {', '.join(RECIPES)} or a Recipe, not {recipe!r} (did you mean epochs=?)")
    return recipe if epochs is None else dataclasses.replace(recipe, epochs=epochs)

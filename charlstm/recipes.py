"""All choices of a training under one name. Used from notebook 04_training on."""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What ``build_model`` and ``train`` do. ``dataclasses.replace(RECIPES["quick"], epochs=8)`` makes another one.

    embeddings_stddev: the embedding begins with numbers from a normal distribution of this standard deviation; None:
        with Keras's own, from -0.05 to 0.05, with which a model learns more slowly.
    learning_rate: Adam's, or with ``schedule`` its highest.
    schedule: the rate rises from a hundredth during the first epoch, and falls back along a cosine until the last.
    clip_norm: the greatest length of the gradient, of all weights together; a longer one is shortened. None: as it is.
    """

    embeddings_stddev: float | None
    learning_rate: float
    schedule: bool
    clip_norm: float | None
    epochs: int

    def compile(self, model: "keras.Model", steps: int) -> None:
        """Give ``model`` the loss and the optimizer of this recipe; ``steps``: in an epoch."""
        import keras

        rate = self.learning_rate
        if self.schedule:
            decay_steps = max(1, (self.epochs - 1) * steps)
            settings = {"alpha": 0.01, "warmup_target": rate, "warmup_steps": steps}
            rate = keras.optimizers.schedules.CosineDecay(rate / 100, decay_steps, **settings)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate, global_clipnorm=self.clip_norm), loss)
        model.optimizer.build(model.trainable_variables)  # or else TensorFlow makes the step's graph twice


RECIPES = {
    # Chapter 16, exactly.
    "book": Recipe(None, learning_rate=0.001, schedule=False, clip_norm=None, epochs=20),
    # Cosine: Loshchilov & Hutter 2017. Clipping: Pascanu, Mikolov & Bengio 2013.
    "quick": Recipe(0.6, learning_rate=0.01, schedule=True, clip_norm=0.25, epochs=5),
    # For a model that is trained already, on more text of the same characters.
    "fine_tune": Recipe(0.6, learning_rate=0.001, schedule=True, clip_norm=0.25, epochs=3),
}


def find_recipe(recipe: str | Recipe, epochs: int | None = None) -> Recipe:
    """The recipe of this name, or the one given, for ``epochs`` if given. Raises ValueError for an unknown name, and TypeError
    for what is neither."""
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"there is no recipe {recipe!r}: take one of {', '.join(RECIPES)}, or make a Recipe")
        recipe = RECIPES[recipe]
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a name or a Recipe, not {recipe!r}: did you mean epochs={recipe!r}?")
    if epochs is not None:
        recipe = dataclasses.replace(recipe, epochs=epochs)
    if recipe.epochs < 1:
        raise ValueError(f"epochs must be at least 1, but is {recipe.epochs}")
    return recipe

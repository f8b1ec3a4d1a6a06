"""The whole program on one screen, without the package: python whole_program.py TEXT_FILE [EPOCHS]

Reads a text, trains the network of chapter 16 on it (20 epochs by default, 6 to 17 minutes for Grimm), and writes.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

SEQ_LENGTH, BATCH_SIZE, EMBEDDING_DIM, RNN_UNITS, TEMPERATURE = 50, 64, 256, 512, 0.5

# 01 Data: each character becomes a number.
with open(sys.argv[1], encoding="utf-8-sig") as file:
    text = file.read()
chars = sorted(set(text))
id_of = {char: i for i, char in enumerate(chars)}
ids = np.array([id_of[char] for char in text], dtype=np.int32)
print(f"{len(text):,} characters, {len(chars)} of them different")

# 02 The pipeline: windows of 51 characters; the target is the input moved on by one.
dataset = tf.data.Dataset.from_tensor_slices(ids).batch(SEQ_LENGTH + 1, drop_remainder=True)
dataset = dataset.map(lambda chunk: (chunk[:-1], chunk[1:])).shuffle(10_000).batch(BATCH_SIZE)

# 03 Memory, 04 The model: a row of numbers for each character, a memory, a score for each possible next one.
embedding = keras.layers.Embedding(len(chars), EMBEDDING_DIM)
lstm = keras.layers.LSTM(RNN_UNITS, return_sequences=True)
dense = keras.layers.Dense(len(chars))
model = keras.Sequential([embedding, lstm, dense])

# 05 Training: make the character that really came likelier, a little at each step.
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(dataset, epochs=int(sys.argv[2]) if len(sys.argv) > 2 else 20, shuffle=False, verbose=2)


# 06 Sampling: one character at a time. The state is carried on, so that nothing is read twice.
@tf.function
def step(char_id, h, c):
    h, (_, c) = lstm.cell(embedding(char_id), [h, c])
    return dense(h)[0], h, c


rng = np.random.default_rng(1)
h = c = tf.zeros((1, RNN_UNITS))
written = text[:20]
for char in written:
    logits, h, c = step(tf.constant([id_of[char]]), h, c)
for _ in range(500):
    scores = np.array(logits, dtype=np.float64) / TEMPERATURE
    probabilities = np.exp(scores - scores.max())
    next_id = rng.choice(len(chars), p=probabilities / probabilities.sum())
    written += chars[next_id]
    logits, h, c = step(tf.constant([next_id], dtype=tf.int32), h, c)
print(written)

"""Train one model on several machines together: on each of them, python train_on_workers.py TEXT SAVE [options]

TEXT: a name that load_corpus knows, a text file, or an .npy of encode_file. SAVE: a .safetensors file. TF_CONFIG tells
each machine who is there, and which one it is. --local 2: try it on one. --checkpoint FOLDER: go on after a crash.
"""

import argparse
import atexit
import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
import zlib

import charlstm.course.ids_file


def learn(model, clip_norm, inputs, targets):
    """Learn from a batch, together with all other workers; gives its mean loss."""
    worker = tf.distribute.get_replica_context()
    number, count = worker.replica_id_in_sync_group, worker.num_replicas_in_sync
    with tf.GradientTape() as tape:
        logits = model(inputs[number::count], training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets[number::count], logits)
        # Our share's part of the mean over the whole batch: 0 where no row is left for us.
        loss = tf.reduce_sum(losses) / tf.cast(tf.size(targets), tf.float32)
    gradients = [tf.convert_to_tensor(part) for part in tape.gradient(loss, model.trainable_variables)]
    loss, *gradients = worker.all_reduce("SUM", [loss, *gradients])  # from here on, those of the whole batch
    gradients = tf.clip_by_global_norm(gradients, clip_norm)[0] if clip_norm else gradients
    model.optimizer.apply([part / count for part in gradients], model.trainable_variables)  # which adds up once more
    return loss


def train(options, recipe, dataset, is_first):
    """What all workers do together; gives the model, and the mean loss of each epoch, in nats."""
    checksum = zlib.crc32(repr((recipe, options.embedding_dim, options.units, dataset.describe())).encode())
    strategy, losses = tf.distribute.MultiWorkerMirroredStrategy(), tf.Variable(tf.zeros(recipe.epochs))
    tf.keras.utils.set_random_seed(options.seed)
    with strategy.scope():  # where a new variable begins on all workers with the value that the first one has for it
        if tf.Variable(checksum, dtype="int64").numpy() != checksum:
            raise ValueError("the first worker has another text, or other options: give all the same")
        model = charlstm.build_model(len(dataset.vocabulary), options.embedding_dim, options.units, recipe)
        dataclasses.replace(recipe, clip_norm=None).compile(model, len(dataset))
    if folder := is_first and options.checkpoint and f"{options.checkpoint}/{checksum:08x}":
        state = tf.train.Checkpoint(model=model, optimizer=model.optimizer, losses=losses)
        manager = tf.train.CheckpointManager(state, folder, max_to_keep=1, init_fn=lambda: manager.save(0))
        manager.restore_or_initialize()
    with strategy.scope():
        for variable in model.variables + model.optimizer.variables:
            variable.assign(tf.Variable(variable.value))
    step = tf.function(lambda *batch: strategy.run(learn, (model, recipe.clip_norm, *batch)), reduce_retracing=True)
    for epoch in range(model.optimizer.iterations.numpy() // len(dataset), recipe.epochs):
        start, total = time.perf_counter(), 0
        for batch in dataset.batches_from(epoch).take(len(dataset)):
            total += len(batch[0]) * strategy.experimental_local_results(step(*batch))[0]
        losses[epoch].assign(total / dataset.n_windows)
        if folder:
            manager.save(epoch + 1)
        if is_first:
            bits, speed = losses[epoch] / tf.math.log(2.0), len(dataset.ids) / (time.perf_counter() - start)
            print(f"epoch {epoch + 1} of {recipe.epochs}: {bits:.3f} bits, {speed:,.0f} characters/s", flush=True)
    return model, losses.numpy().tolist()


def start_others(count):  # of ``count`` workers on this machine, of which this process is the first
    free = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    cluster = {"worker": [f"127.0.0.1:{one.getsockname()[1]}" for one in free]}
    for number in reversed(range(count)):
        free[number].close()
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": number}})
        if number > 0:
            atexit.register(subprocess.Popen([sys.executable, *sys.argv, "--local=0"], stdout=subprocess.DEVNULL).kill)


def meet(timeout):
    """Wait until all that TF_CONFIG names are there; gives the number of this worker, and how many there are."""
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        [addresses], number = config["cluster"].values(), config["task"]["index"]
        port = int(addresses[number].rpartition(":")[2])
    except (ValueError, LookupError, TypeError, AttributeError):
        example = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'
        raise ValueError(f"give --local 2, or set the environment variable TF_CONFIG, such as to {example}") from None
    missing, end = {*addresses}, time.monotonic() + timeout
    with socket.create_server(("", port)):  # where TensorFlow will listen
        while missing and time.monotonic() < end:
            for address in sorted(missing):
                with contextlib.suppress(OSError), socket.create_connection(address.rsplit(":", 1), timeout=1):
                    missing.remove(address)
            time.sleep(0.5)  # so that the others see us, too
    if missing:
        raise TimeoutError(f"waited {timeout:g} seconds for {', '.join(missing)}: start all, and look for firewalls")
    return number, len(addresses)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--recipe", choices=["quick", "book"], default="quick")
defaults = {"text": "", "save": "", "--checkpoint": "", "--held-out": 0.1, "--timeout": 300.0, "--local": 0}
defaults |= {"--epochs": 0, "--seed": 1, "--seq-length": 50, "--batch-size": 64, "--embedding-dim": 256, "--units": 512}
for name, default in defaults.items():
    parser.add_argument(name, type=type(default), default=default, help=f"default: {default}" if default else None)
options = parser.parse_args()
try:
    recipe = charlstm.recipes.find_recipe(options.recipe, options.epochs or None)
    if min(options.embedding_dim, options.units, options.batch_size // max(options.local, 1)) < 1:
        raise ValueError("embedding-dim and units must be at least 1, batch-size at least the number of workers")
    os.makedirs(options.checkpoint or ".", exist_ok=True)
    charlstm.files.path_to_write(options.save, ".safetensors", charlstm.files.MODEL_FORMAT)  # rather than in the end
    corpus = None if options.text.endswith((".npy", ".safetensors")) else charlstm.load_corpus(options.text)
    ids = corpus.vocabulary.encode(corpus.text) if corpus else charlstm.course.ids_file.open_ids(options.text)
    ids, held_out_ids = charlstm.split(ids, options.held_out) if options.held_out else (ids, None)
    dataset = charlstm.make_dataset(ids, options.seq_length, options.batch_size, seed=options.seed)
    start_others(options.local)
    charlstm.import_tensorflow_quietly()  # which takes seconds, and should have worked before the others count on us
    import tensorflow as tf

    number, count = meet(options.timeout)
    model, losses = train(options, recipe, dataset, number == 0)
    if number == 0:
        charlstm.save_model(options.save, model, dataset.vocabulary, {"workers": count, "loss": losses})
    if number == 0 and held_out_ids is not None:
        print(f"held out {charlstm.bits_per_char(model, held_out_ids):.3f} bits per character")
except (ValueError, OSError) as error:
    sys.exit(f"train_on_workers.py: {error}")
except tf.errors.OpError as error:
    sys.exit(f"train_on_workers.py: another worker has ended or can't be reached ({type(error).__name__}): start again")

"""Train one model on several machines together: on each of them, python train_on_workers.py TEXT SAVE [options]

The environment variable TF_CONFIG tells each machine who is there, and which of them it is; all of them need the same
text and the same command. To try it on one machine: --local 2, without TF_CONFIG. After a crash, start all again with
the same command: with --checkpoint they go on from the last whole epoch. For two machines, on the first:

    TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}' \\
        python train_on_workers.py grimm model.safetensors --checkpoint checkpoint

and on the second the same with "index": 1.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import charlstm
from charlstm.recipes import RECIPES
from charlstm.text_file import open_ids
from charlstm.workers import Workers, connect


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="a name that load_corpus knows, a text file, or an .safetensors of encode_file")
    parser.add_argument("save", type=Path, help="where the first worker writes the model, a .safetensors file")
    parser.add_argument("--recipe", choices=RECIPES, default="quick")
    parser.add_argument(
        "--checkpoint", type=Path, help="a file of the first worker, from which an interrupted run goes on"
    )
    parser.add_argument("--epochs", type=int, help="another number of them than the recipe's")
    parser.add_argument("--held-out", type=float, default=0.1, help="the share of the text to measure on; 0: none")
    parser.add_argument("--sample-prompt", help="what the model writes from, under each epoch's line")
    parser.add_argument("--seed", type=int, default=1)
    for name, size in (("seq-length", 50), ("batch-size", 64), ("embedding-dim", 256), ("units", 512)):
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--timeout", type=float, default=300, help="seconds to wait for the other workers; default 300")
    parser.add_argument("--local", type=int, metavar="N", help="start N workers on this machine")
    return parser.parse_args()


def train(arguments: argparse.Namespace) -> None:
    """What each worker does."""
    strategy = connect(arguments.timeout)
    import keras

    is_first = Workers(strategy).number == 0
    if not is_first:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if arguments.text.endswith(".safetensors"):
        ids = open_ids(arguments.text)
    else:
        corpus = charlstm.load_corpus(arguments.text)
        ids = corpus.vocabulary.encode(corpus.text)
    train_ids, held_out_ids = charlstm.split(ids, arguments.held_out) if arguments.held_out else (ids, None)
    recipe = RECIPES[arguments.recipe]
    keras.utils.set_random_seed(arguments.seed)
    with strategy.scope():
        sizes = len(ids.vocabulary), arguments.embedding_dim, arguments.units
        model = charlstm.build_model(*sizes, recipe)
    sizes = arguments.seq_length, arguments.batch_size
    dataset = charlstm.make_dataset(train_ids, *sizes, seed=arguments.seed, carry_state=recipe.carry_state)
    history = charlstm.train(
        model, dataset, recipe, arguments.epochs, held_out_ids, arguments.checkpoint, arguments.sample_prompt
    )
    if is_first:
        card = {"text": arguments.text, "recipe": arguments.recipe, "workers": strategy.num_replicas_in_sync}
        charlstm.save_model(arguments.save, model, ids.vocabulary, card | history)


def start_locally(count: int) -> int:
    """Start this program ``count`` times; gives the exit code of the first that fails, which ends all, or else 0."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{free.getsockname()[1]}" for free in sockets]
    for free in sockets:
        free.close()
    workers = []
    try:
        for index in range(count):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            settings = os.environ | {"TF_CONFIG": json.dumps(config)}
            place = [sys.executable, __file__, *sys.argv[1:], "--local", "0"]  # the last one counts
            workers.append(subprocess.Popen(place, env=settings))
        while None in (codes := [worker.poll() for worker in workers]) and not any(codes):
            time.sleep(0.1)
        return next(filter(None, codes), 0)
    finally:
        for worker in workers:
            worker.kill()  # TensorFlow does not let go for less
            worker.wait()


def main() -> int:
    arguments = read_arguments()
    try:
        if arguments.local:
            return start_locally(arguments.local)
        train(arguments)
        return 0
    except KeyboardInterrupt:
        return 130
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # After an error TensorFlow would wait for workers that wait for this one.
    os._exit(code) if code else sys.exit()

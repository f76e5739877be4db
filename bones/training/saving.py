"""A training that can be stopped at any step and gone on with: what is saved, when, and how a Ctrl-C or SIGTERM is heeded."""

import contextlib
import os
import signal

import keras

from bones.runs import checkpoints
from bones.runs.folder import selected_epoch
from bones.system import collectives
from bones.system import scripts as interrupts


class StoppedError(Exception):
    """Training was asked to stop, and has saved its state."""


class StopSignal:
    """Notes a first Ctrl-C or SIGTERM, so that training stops between two steps; a second one stops at once."""

    def __init__(self):
        self.requested = False

    @contextlib.contextmanager
    def listen(self):
        """Where signals are noted; behind it they do again what they did before."""
        before = {number: signal.signal(number, self.on_signal) for number in interrupts.SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_signal(self, number, frame):
        self.requested = True
        for later in interrupts.SIGNALS:
            signal.signal(later, signal.default_int_handler)
        os.write(2, b"\nStopping after this step; press Ctrl-C again to stop at once.\n")  # print may be what was interrupted


class SaveRun(keras.callbacks.Callback):
    """Writes best.h5, last.h5, history.csv and the resume state after each epoch, and the state alone when asked to stop.

    Keras's BackupAndRestore keeps neither the plateau's count nor the best epoch, so a resumed run would differ.
    """

    def __init__(self, run, network, trainer, tuning_scores, chosen, stop, plateau=None):
        """
        Args:
            tuning_scores: the callbacks.ScoreTuning, which also measures an epoch's time.
            chosen: which epoch best.h5 is of: "best", by tuning AUROC, or "last".
            stop: StopSignal.
            plateau: the callback of `trainer.plateau`, if the learning rate hangs on one.
        """
        super().__init__()
        self.run, self.network, self.trainer, self.tuning_scores = run, network, trainer, tuning_scores
        self.chosen, self.stop, self.plateau = chosen, stop, plateau
        self.history, self.plateau_state, self.partial_epoch = [], None, None

    def variables(self):
        """Weights, states of random layers and of the optimizer, in a fixed order."""
        return [*self.trainer.variables, *self.trainer.optimizer.variables]

    def best(self):
        """The row of the epoch that best.h5 is of."""
        return self.history[selected_epoch([row["val_auroc"] for row in self.history], self.chosen)]

    def restore(self):
        """Take up the saved state.

        Returns: (epochs, steps): how many epochs are done, and how many steps of the next.
        """
        notes = checkpoints.load_state(self.run, self.variables()) or {"history": []}
        self.history, self.plateau_state, self.partial_epoch = notes["history"], notes.get("plateau"), notes.get("begun")
        if self.history:
            with collectives.on_this_host():
                checkpoints.load_network(self.run)  # a damaged best.h5 is told now, not after the epochs left
            self.run.write_history(self.history)
        return len(self.history), self.partial_epoch["steps"] if self.partial_epoch else 0

    def save(self):
        """Write what `restore` reads."""
        notes = {"history": self.history, "plateau": self.plateau_state, "begun": self.partial_epoch}
        checkpoints.save_state(self.run, self.variables(), notes)

    def on_train_begin(self, logs=None):
        if self.plateau_state:  # after the plateau's own on_train_begin, which forgets
            vars(self.plateau).update(self.plateau_state)

    def on_epoch_begin(self, epoch, logs=None):
        self.steps_done = self.partial_epoch["steps"] if self.partial_epoch else 0
        if self.partial_epoch:  # after Keras's own beginning, which clears the metrics
            for variable, value in zip(self.trainer.metrics_variables, self.partial_epoch["metrics"], strict=True):
                variable.assign(value)
            self.tuning_scores.restore(self.partial_epoch)
            self.partial_epoch = None

    def on_train_batch_end(self, batch, logs=None):
        # After the last step the epoch is done: it is scored and saved.
        if collectives.any_host(self.stop.requested) and batch + 1 < self.params["steps"]:
            trainer = self.model  # on JAX, being asked for it, Keras puts the weights back into the network
            metrics = [keras.ops.convert_to_numpy(variable).tolist() for variable in trainer.metrics_variables]
            self.partial_epoch = {"steps": self.steps_done + batch + 1, "metrics": metrics, **self.tuning_scores.state()}
            self.save()
            raise StoppedError

    def on_epoch_end(self, epoch, logs):
        self.history.append({"epoch": epoch + 1, **logs})
        if self.best()["epoch"] == epoch + 1:
            checkpoints.save_network(self.run, self.network, "best.h5")
        checkpoints.save_network(self.run, self.network, "last.h5")
        if self.plateau:
            self.plateau_state = {name: getattr(self.plateau, name) for name in ("best", "wait", "cooldown_counter")}
        self.save()
        self.run.write_history(self.history)
        if collectives.any_host(self.stop.requested):
            raise StoppedError

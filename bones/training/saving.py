"""Saving a training so that it can be stopped at any step and resumed, and handling of Ctrl-C and SIGTERM."""

import contextlib
import os
import signal

import keras

from bones.runs import checkpoints
from bones.runs.folder import selected_epoch
from bones.system import collectives
from bones.system import scripts as interrupts


class StoppedError(Exception):
    """Training was stopped on request, and its state is saved."""


class StopSignal:
    """Records a first Ctrl-C or SIGTERM, so that training stops between two steps; a second one stops immediately."""

    def __init__(self):
        self.requested = False

    @contextlib.contextmanager
    def listen(self):
        """Record signals within this context; the previous handlers are restored after it."""
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
        os.write(2, b"\nStopping after this step; press Ctrl-C again to stop immediately.\n")  # print may have been interrupted


class SaveRun(keras.callbacks.Callback):
    """Writes the best and the last network, history.csv and the resume state after each epoch, and only the state when stopped.

    Keras's BackupAndRestore saves neither the plateau's count nor the best epoch, so a resumed run would differ.
    """

    def __init__(self, run, network, trainer, tuning_scores, chosen, stop, plateau=None):
        """
        Args:
            network: what is saved.
            trainer: what is trained, and has the optimizer.
            tuning_scores: the callbacks.ScoreTuning, which also measures an epoch's time.
            chosen: the epoch saved as best.h5, see `selected_epoch`.
            stop: StopSignal.
            plateau: the callback of `trainer.plateau`, if the schedule is one.
        """
        super().__init__()
        self.run, self.network, self.trainer, self.tuning_scores = run, network, trainer, tuning_scores
        self.chosen, self.stop, self.plateau = chosen, stop, plateau
        self.names = ("best.h5", "last.h5")  # see checkpoints.network_names
        self.history, self.plateau_state, self.partial_epoch = [], None, None

    def variables(self):
        """Weights, states of random layers and optimizer state, in a fixed order."""
        trained = self.trainer.variables
        known = {id(variable) for variable in trained}
        constant = [variable for variable in self.network.variables if id(variable) not in known]  # see frozen.split
        return [*trained, *self.trainer.optimizer.variables, *constant]

    def best(self):
        """The history row of the selected epoch."""
        return self.history[selected_epoch(self.history, self.chosen)]

    def restore(self):
        """Restore the saved state.

        Returns: (epochs, steps): completed epochs, and completed steps of the next.
        """
        notes = checkpoints.load_state(self.run, self.variables()) or {"history": []}
        self.history, self.plateau_state, self.partial_epoch = notes["history"], notes.get("plateau"), notes.get("begun")
        if self.history:
            with collectives.on_this_host():
                checkpoints.load_network(self.run)  # reports a damaged best.h5 now, not after the remaining epochs
            self.run.write_history(self.history)
        return len(self.history), self.partial_epoch["steps"] if self.partial_epoch else 0

    def save(self):
        """Save the state for `restore`."""
        notes = {"history": self.history, "plateau": self.plateau_state, "begun": self.partial_epoch}
        checkpoints.save_state(self.run, self.variables(), notes)

    def on_train_begin(self, logs=None):
        if self.plateau_state:  # after the plateau's on_train_begin, which resets it
            vars(self.plateau).update(self.plateau_state)

    def on_epoch_begin(self, epoch, logs=None):
        self.steps_done = self.partial_epoch["steps"] if self.partial_epoch else 0
        if self.partial_epoch:  # after Keras has reset the metrics
            for variable, value in zip(self.trainer.metrics_variables, self.partial_epoch["metrics"], strict=True):
                variable.assign(value)
            self.tuning_scores.restore(self.partial_epoch)
            self.partial_epoch = None

    def on_train_batch_end(self, batch, logs=None):
        # After the last step, the epoch is complete: it is scored and saved.
        if collectives.any_host(self.stop.requested) and batch + 1 < self.params["steps"]:
            trainer = self.model  # on JAX, access to it writes the weights back into the network
            metrics = [keras.ops.convert_to_numpy(variable).tolist() for variable in trainer.metrics_variables]
            self.partial_epoch = {"steps": self.steps_done + batch + 1, "metrics": metrics, **self.tuning_scores.state()}
            self.save()
            raise StoppedError

    def on_epoch_end(self, epoch, logs):
        self.history.append({"epoch": epoch + 1, **logs})
        best, last = self.names
        if self.best()["epoch"] == epoch + 1:
            checkpoints.save_network(self.run, self.network, best)
        checkpoints.save_network(self.run, self.network, last)
        if self.plateau:
            self.plateau_state = {name: getattr(self.plateau, name) for name in ("best", "wait", "cooldown_counter")}
        self.save()
        self.run.write_history(self.history)
        if collectives.any_host(self.stop.requested):
            raise StoppedError

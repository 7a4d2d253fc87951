"use strict";
// The stream of notices, which comes back by itself: after a sleep of the machine, a break, a restart.
(function (defib) {
  const SILENT = 25000; // ms without a word (the server says one every 10 s) after which a line is dead
  const AGAIN = 1500;

  // told: {run(notice), lost(text), back()}. Times are the browser's own; nothing here reads a clock.
  defib.stream = function (path, told) {
    let source = null;
    let watchdog = null;
    let isLost = false;

    function heard() {
      clearTimeout(watchdog);
      watchdog = setTimeout(function () { lost("No word from the server; trying again"); open(); }, SILENT);
      if (isLost) { isLost = false; told.back(); }
    }
    function lost(text) {
      isLost = true;
      told.lost(text);
    }
    // An EventSource does not say why it was refused: asking once more does.
    function refused() {
      fetch(path, { method: "HEAD", cache: "no-store" }).then(function (answer) {
        if (answer.status === 403) lost("This page is of a server that has ended; open the address that the new one printed");
        else if (answer.status === 503) lost("Too many pages are open; trying again");
        else lost("The server answered " + answer.status + "; trying again");
      }, function () { lost("The server does not answer; trying again"); });
    }
    function open() {
      if (source) source.close();
      source = new EventSource(path);
      source.addEventListener("open", heard);
      source.addEventListener("beat", heard);
      source.addEventListener("run", function (event) { heard(); told.run(JSON.parse(event.data)); });
      source.addEventListener("left-out", function (event) { heard(); if (told.leftOut) told.leftOut(Number(event.data)); });
      source.addEventListener("bye", function () { lost("The server was stopped; this page goes on when it is started again with the same token and port"); });
      source.addEventListener("error", function () {
        clearTimeout(watchdog);
        if (source.readyState === EventSource.CLOSED) {
          refused();
          setTimeout(open, AGAIN);
        } else if (!isLost) lost("The server does not answer; trying again");
      });
    }
    open();
  };
})(window.defib);

"""`python -m pixloc_ros.replay BAG`: play a bag."""

from pixloc_ros.replay.player import main

raise SystemExit(main())

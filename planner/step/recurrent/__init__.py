"""Linear attention and state-space layers: gated delta nets and Mamba 2."""
